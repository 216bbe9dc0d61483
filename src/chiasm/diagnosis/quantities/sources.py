"""Several sources that are active at once: clusters of pulses, each judged by itself.

A fault has one lobe or several, so that a cluster alone is not yet a source. Clusters of like
charge half a cycle apart are the two lobes of one source, and stay together. The clusters of a
recording are divided into two groups in every other way, and a model judges the pulses of each
group alone. The recording has two sources if it is sure of both, and of different classes; else
one.
Each group is then divided further in the same way. Sources whose pulses have the same phases and
charges, or the same class, are not told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.quantities.charge_quantities import quantities_of
from chiasm.diagnosis.quantities.clusters import PHASES, pulse_clusters
from chiasm.diagnosis.quantities.pattern import quiet_where
from chiasm.diagnosis.quantities.pulse_extraction import ExtractedPulses
from chiasm.discharge import DischargeSource, Pulses, Quantities
from chiasm.files.words import is_good
from chiasm.samples import Diagnosis, RecordingSample

# Clusters that are divided, the largest; there are 2 ** (n - 1) - 1 ways.
MOST_CLUSTERS = 4
# Probability from which a model is sure of a group.
SURE = 0.8
# Two lobes of a source are half a cycle apart up to so many degrees, and so many octaves of charge.
_APART, _OCTAVES = 40.0, 1.0
# What an octave between the charges of clusters of one source costs, in probability.
_UNLIKE = 0.02
# Values beyond so many deviations of the floor that are no pulse of a group are hidden from it.
_HIDDEN = 3.0
# Columns of phase with this share of the fullest belong to the phases of a source.
_COLUMN = 0.05

Judge = Callable[[RecordingSample], Diagnosis]
Group = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lobe:
    """A cluster of pulses.

    Attributes:
        phase: of its middle, degrees.
        octave: logarithm of its median charge to the base 2.
        halo: whether it is the surroundings of a denser one.
    """

    phase: float
    octave: float
    halo: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """A recording, its pulses, and the cluster ``(N,)`` of each."""

    sample: RecordingSample
    extracted: ExtractedPulses
    clusters: NDArray[np.int64]

    def of(self, group: Group) -> NDArray[np.bool_]:
        """Return which pulses ``(N,)`` a group of clusters has."""
        return np.isin(self.clusters, group)

    def alone(self, group: Group) -> RecordingSample:
        """Return the recording with the pulses of a group alone, and without its picture."""
        series, extracted = self.sample.series, self.extracted
        assert series is not None
        kept = np.zeros(series.shape[1], bool)
        kept[extracted.index[self.of(group)]] = True
        far = np.abs(series[0] - np.median(series[0])) > _HIDDEN * extracted.floor
        return replace(
            self.sample, image=None, pulses=None, series=quiet_where(series, far & ~kept)
        )


def discharge_sources(
    judge: Judge, sample: RecordingSample, extracted: ExtractedPulses
) -> tuple[DischargeSource, ...]:
    """Return the sources of a recording if it has several, the largest charge first; else ().

    Args:
        judge: diagnoses a recording by its series.
        sample: with a series of one channel.
        extracted: its pulses.
    """
    clusters = pulse_clusters(extracted.pulses)
    count = min(len(clusters), MOST_CLUSTERS)
    if count < 2:
        return ()
    recording = _Recording(sample, extracted, clusters.labels)
    judged: dict[Group, Diagnosis] = {}

    def judge_group(group: Group) -> Diagnosis:
        if group not in judged:
            judged[group] = judge(recording.alone(group))
        return judged[group]

    charge, turn = np.abs(extracted.pulses.amplitude), np.radians(extracted.pulses.phase)
    lobes = [
        Lobe(
            phase=float(np.degrees(np.angle(np.exp(1j * turn[clusters.labels == cluster]).mean()))),
            octave=float(np.log2(np.median(charge[clusters.labels == cluster]))),
            halo=cluster in clusters.halos,
        )
        for cluster in range(count)
    ]
    pairs = lobe_pairs(lobes)
    by_kind: dict[str, Group] = {}
    for group in _divided(judge_group, tuple(range(count)), lobes, pairs):
        kind = _likeliest(judged[group])[0] if group in judged else ""
        by_kind[kind] = by_kind.get(kind, ()) + group
    if len(by_kind) < 2:
        return ()
    charges = {
        k: float(np.abs(extracted.pulses.amplitude[recording.of(g)]).sum())
        for k, g in by_kind.items()
    }
    counts = {k: int(recording.of(g).sum()) for k, g in by_kind.items()}
    return tuple(
        DischargeSource(
            kind=kind,
            probability=judge_group(by_kind[kind]).probabilities[kind],
            share_of_pulses=counts[kind] / sum(counts.values()),
            share_of_charge=charges[kind] / sum(charges.values()),
            phases_deg=_phases(extracted.pulses.phase[recording.of(by_kind[kind])]),
            probabilities=judge_group(by_kind[kind]).probabilities,
            quantities=_quantities(recording, by_kind[kind]),
        )
        for kind in sorted(charges, key=lambda name: -charges[name])
    )


def _divided(
    judge: Callable[[Group], Diagnosis],
    group: Group,
    lobes: Sequence[Lobe],
    pairs: Sequence[tuple[int, int]],
) -> list[Group]:
    """Return the groups into which a group of clusters falls; itself where it is one source.

    Halos alone are no source: they are a part of one that a denser one hides, or of that one. Of
    ways that are alike likely the one is taken whose groups have clusters of like charges.
    """
    best: tuple[float, Group, Group] | None = None
    for one, other in _ways(group):
        if any(all(lobes[c].halo for c in part) for part in (one, other)):
            continue
        if any((a in one) != (b in one) for a, b in pairs if a in group and b in group):
            continue
        (kind, sure), (another, also) = _likeliest(judge(one)), _likeliest(judge(other))
        if kind == another or is_good(kind) or is_good(another) or min(sure, also) < SURE:
            continue
        likely = sure * also - _UNLIKE * (_spread(lobes, one) + _spread(lobes, other))
        if best is None or likely > best[0]:
            best = (likely, one, other)
    if best is None:
        return [group]
    return [part for half in best[1:] for part in _divided(judge, half, lobes, pairs)]


def lobe_pairs(lobes: Sequence[Lobe]) -> list[tuple[int, int]]:
    """Return the pairs of clusters that are two lobes of one source, each the other's likeliest."""
    distance: dict[tuple[int, int], float] = {}
    for (a, one), (b, other) in combinations(enumerate(lobes), 2):
        apart = abs((one.phase - other.phase) % 360 - 180) / _APART
        unlike = abs(one.octave - other.octave) / _OCTAVES
        if max(apart, unlike) <= 1:
            distance[a, b] = apart + unlike
    nearest = {
        c: min((p for p in distance if c in p), key=lambda p: distance[p], default=None)
        for c in range(len(lobes))
    }
    return [pair for pair in distance if nearest[pair[0]] == pair == nearest[pair[1]]]


def _spread(lobes: Sequence[Lobe], group: Group) -> float:
    """Return the octaves between the smallest and the largest charge of a group's clusters."""
    values = [lobes[cluster].octave for cluster in group]
    return max(values) - min(values)


def _ways(group: Group) -> Iterator[tuple[Group, Group]]:
    """Yield each division of a group into two, once."""
    first, rest = group[0], group[1:]
    for size in range(len(rest)):
        for more in combinations(rest, size):
            yield (first, *more), tuple(c for c in rest if c not in more)


def _likeliest(diagnosis: Diagnosis) -> tuple[str, float]:
    """Return the class of a diagnosis and its probability; 0 where it is unknown."""
    kind = max(diagnosis.probabilities, key=lambda name: diagnosis.probabilities[name])
    return kind, diagnosis.probabilities[kind] if diagnosis.kind == kind else 0.0


def _quantities(recording: _Recording, group: Group) -> Quantities:
    sample, chosen = recording.sample, recording.of(group)
    pulses = recording.extracted.pulses
    assert sample.series is not None and pulses.time is not None
    return quantities_of(
        Pulses(pulses.phase[chosen], pulses.amplitude[chosen], pulses.time[chosen]),
        duration_s=sample.series.shape[1] / (sample.frequency * sample.samples_per_cycle),
        frequency=sample.frequency,
        system=sample.system,
        floor=recording.extracted.floor,
    )


def _phases(phase: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Return the ranges of the phase that hold most pulses, degrees; one may run over 360."""
    counts = np.bincount((phase / 360 * PHASES).astype(np.int64) % PHASES, minlength=PHASES)
    full = counts >= _COLUMN * counts.max()
    if full.all():
        return ((0.0, 360.0),)
    width = 360.0 / PHASES
    starts = np.flatnonzero(full & ~np.roll(full, 1))
    ranges = []
    for start in starts.tolist():
        length = int(np.argmin(np.roll(full, -start)))
        ranges.append((start * width, (start + length) * width))
    weight = [
        counts.take(range(round(a / width), round(b / width)), mode="wrap").sum() for a, b in ranges
    ]
    return tuple(ranges[i] for i in np.argsort(weight)[::-1].tolist())
