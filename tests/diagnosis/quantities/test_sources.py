"""Clusters are the lobes of a pattern; sources are groups of which a judge is sure."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.diagnosis.prediction.occlusion import speaking_phases
from chiasm.diagnosis.quantities.clusters import pulse_clusters
from chiasm.diagnosis.quantities.pattern import phase_pattern, without_phases
from chiasm.diagnosis.quantities.pulse_extraction import extract_pulses
from chiasm.diagnosis.quantities.sources import Lobe, discharge_sources, lobe_pairs
from chiasm.discharge import Pulses
from chiasm.samples import Diagnosis, RecordingSample

CYCLES, CYCLE = 400, 128


def lobe(centre: float, charge: float, count: int, seed: int, width: float = 12.0) -> Pulses:
    random = np.random.default_rng(seed)
    phase = np.mod(centre + width * random.standard_normal(count), 360)
    return Pulses(phase, charge * np.exp(0.12 * random.standard_normal(count)))


def joined(*parts: Pulses) -> Pulses:
    return Pulses(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("phase", "amplitude")))


def recorded(pulses: Pulses, seed: int = 0) -> RecordingSample:
    """Return a recording with the pulses, spread over its cycles."""
    random = np.random.default_rng(seed)
    series = 20 + random.standard_normal(CYCLES * CYCLE)
    place = random.integers(CYCLES, size=len(pulses.phase)) * CYCLE
    place += np.minimum((pulses.phase / 360 * CYCLE).astype(int), CYCLE - 1)
    np.maximum.at(series, place, 20 + pulses.amplitude)
    return RecordingSample(None, series.astype(np.float32)[None], 60.0, CYCLE)


def pulses_of(sample: RecordingSample):
    return extract_pulses(
        sample.series[0], frequency=60.0, samples_per_cycle=CYCLE, polarity="unipolar"
    )


@pytest.mark.parametrize("shift", [0, 90, 170, 275])
def test_lobes_are_told_apart_wherever_the_phase_begins(shift: float):
    first, second = lobe(shift, 100, 800, 1), lobe(shift + 180, 100, 500, 2)
    third = lobe(shift, 20, 300, 3)
    clusters = pulse_clusters(joined(first, second, third)).labels
    assert clusters.max() == 2
    for part, number in ((clusters[:800], 0), (clusters[800:1300], 1), (clusters[1300:], 2)):
        assert (part == number).mean() > 0.97


def test_a_sparse_lobe_beside_a_dense_one_is_a_cluster_of_its_own():
    dense, sparse = lobe(270, 100, 8000, 1, width=6), lobe(225, 90, 1500, 2, width=22)
    found = pulse_clusters(joined(dense, sparse))
    clusters = found.labels
    assert len(found) == 2 and found.halos == {1}
    alone = np.abs(sparse.phase - 270) > 40  # not within the dense one
    assert (clusters[8000:][alone] == 1).mean() > 0.9 and (clusters[:8000] == 0).mean() > 0.9
    assert len(pulse_clusters(dense)) == 1 and not pulse_clusters(dense).halos


def test_scattered_pulses_and_an_empty_list_are_no_cluster():
    random = np.random.default_rng(0)
    scattered = Pulses(360 * random.random(60), 10 + 200 * random.random(60))
    assert (pulse_clusters(scattered).labels < 0).mean() > 0.5
    assert len(pulse_clusters(Pulses(np.zeros(0), np.zeros(0)))) == 0


def judge(sample: RecordingSample) -> Diagnosis:
    """Return 'twice' for pulses in both halves of the cycle, 'once' for one, else 'normal'."""
    phase = pulses_of(sample).pulses.phase
    share = float((phase < 180).mean()) if len(phase) > 20 else -1.0
    kind = "normal" if share < 0 else "twice" if 0.1 < share < 0.9 else "once"
    others = {name: 0.01 for name in ("once", "twice", "normal") if name != kind}
    return Diagnosis("", kind, {kind: 0.98, **others})


def test_two_sources_are_named_with_their_shares_and_phases():
    twice = joined(lobe(60, 25, 1000, 1), lobe(240, 25, 1000, 2))
    sample = recorded(joined(twice, lobe(270, 160, 500, 3)))
    found = discharge_sources(judge, sample, pulses_of(sample))
    assert [source.kind for source in found] == ["once", "twice"]  # by charge
    assert sum(source.share_of_charge for source in found) == pytest.approx(1)
    assert sum(source.share_of_pulses for source in found) == pytest.approx(1)
    assert found[1].share_of_pulses > 0.7 > found[1].share_of_charge
    start, end = found[0].phases_deg[0]
    assert start < 270 < end < start + 90
    assert found[0].quantities.charge_10_per_s > 100 > found[1].quantities.charge_10_per_s


def test_the_lobes_of_one_source_are_not_split_and_normal_is_no_source():
    for pulses in (
        joined(lobe(60, 25, 1000, 1), lobe(240, 25, 1000, 2)),
        lobe(270, 160, 500, 3),
        joined(lobe(270, 160, 500, 3), lobe(300, 30, 400, 4)),  # both in one half
        Pulses(np.zeros(0), np.zeros(0)),
    ):
        sample = recorded(pulses)
        assert discharge_sources(judge, sample, pulses_of(sample)) == ()


def test_lobes_half_a_cycle_apart_of_like_charge_are_a_pair():
    lobes = [Lobe(60, 5.0), Lobe(-115, 5.4), Lobe(235, 5.9), Lobe(270, 8.0)]
    assert lobe_pairs(lobes) == [(0, 1)]
    assert lobe_pairs(lobes[:1]) == [] and lobe_pairs([Lobe(60, 5.0), Lobe(240, 7.0)]) == []


def test_an_unsure_judge_splits_nothing():
    sample = recorded(joined(lobe(90, 25, 1000, 1), lobe(270, 160, 500, 3)))

    def unsure(sample: RecordingSample) -> Diagnosis:
        kind = "a" if pulses_of(sample).pulses.phase.mean() < 180 else "b"
        return Diagnosis("", kind, {kind: 0.7, "c": 0.3})

    assert discharge_sources(unsure, sample, pulses_of(sample)) == ()


def test_the_phases_that_decide_are_those_that_speak():
    sample = recorded(joined(lobe(100, 60, 600, 1, width=5), lobe(280, 60, 600, 2, width=5)))

    def early(sample: RecordingSample) -> Diagnosis:
        share = min(0.98, 0.02 + (pulses_of(sample).pulses.phase < 180).sum() / 700)
        return Diagnosis("", "early", {"early": share, "late": 1 - share})

    speaks = speaking_phases(early, sample, early(sample))
    assert speaks.argmax() == 3 and (speaks[5:] < 0.05).all()


def test_a_hidden_phase_is_quiet_in_series_and_picture():
    sample = recorded(lobe(90, 60, 600, 1, width=5))
    picture = np.ones((16, 64, 3), np.float32)
    picture[4:8, 12:20] = 0
    sample = RecordingSample(picture, sample.series, 60.0, CYCLE)
    hidden = without_phases(sample, 0.125, 0.375)
    assert len(pulses_of(hidden).index) < 0.02 * len(pulses_of(sample).index)
    assert (hidden.image == 1).all() and (sample.image != 1).any()


def test_a_pattern_counts_every_pulse_once():
    pulses = joined(lobe(90, 60, 600, 1), lobe(270, -40, 300, 2))
    pattern = phase_pattern(pulses, 2.0)
    assert pattern.counts.sum() == 900 and pattern.signed and pattern.unit == "pC"
    assert pattern.low == -pattern.high and pattern.high > 2 * np.abs(pulses.amplitude).max()
    upper = pattern.counts[len(pattern.counts) // 2 :]
    assert upper.sum() == 600
    assert not phase_pattern(lobe(90, 60, 600, 1)).signed
