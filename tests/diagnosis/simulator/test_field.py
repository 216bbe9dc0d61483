"""The tier of the field: its defects, sensors, recorders and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.simulator.field import (
    FIELD_CLASSES,
    FieldSession,
    plan_field_session,
    simulate_field_recording,
    simulate_waveform,
)
from chiasm.diagnosis.simulator.field_defects import (
    activity,
    crowded_gap,
    field_pulses,
    floating_gap,
    particle_pulses,
    unsteady_corona_pulses,
)
from chiasm.diagnosis.simulator.field_recorder import held_counts, recorded_pulses
from chiasm.diagnosis.simulator.field_waveform import sampled_waveform
from chiasm.diagnosis.simulator.physics import (
    Mains,
    Pulses,
    gap_discharges,
    surface_gap,
    void_gap,
)
from chiasm.diagnosis.simulator.simulator import is_simulated, make_recordings
from chiasm.errors import ConfigurationError, DataError

SHORT = Mains(50, 200)


def _rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(list(seed))


def _session(kind: str, number: int = 0, **changes: object) -> FieldSession:
    session = plan_field_session(number, 50, seed=4, classes=(kind,), frequency=50, cycles=100)
    quiet = replace(session.recorder, sigma=1.0, pedestal=10.0, ringing=0.0, tail=0.0, scatter=0.0)
    return replace(session, recorder=replace(quiet, **changes), background=0.0, interference=0.0)  # type: ignore[arg-type]


def test_a_floating_electrode_repeats_one_charge_in_both_polarities() -> None:
    for n in range(6):
        gap = floating_gap(1.1 + 0.1 * n, _rng(n, 0))
        pulses = gap_discharges(gap, _rng(n, 1), mains=SHORT, signed=True)
        positive, negative = (pulses.charge[pulses.charge * s > 0] for s in (1, -1))
        for side in (positive, -negative):
            assert side.std() / side.mean() < 0.15
        assert abs(np.log(positive.mean() / -negative.mean())) < 0.2
        # The same number in every cycle, but for the jitter of the voltage.
        number = np.bincount(pulses.cycle, minlength=SHORT.cycles)
        assert number.std() < 0.35 * number.mean()


def test_a_particle_is_tied_to_no_phase_and_rests() -> None:
    second, spread, gaps = [], [], []
    for n in range(12):
        pulses = particle_pulses(_rng(n, 0), _rng(n, 1), Mains(50, 1000))
        angle = np.radians(pulses.phase)
        second.append(abs(np.exp(2j * angle).mean()))
        spread.append(pulses.charge.std() / np.abs(pulses.charge).mean())
        number = np.bincount(pulses.cycle // 50, minlength=20)
        gaps.append(number.std() / number.mean())
        assert (pulses.charge > 0).any() and (pulses.charge < 0).any()
    assert np.median(second) < 0.1
    assert min(spread) > 0.5
    assert np.median(gaps) > 0.3


def test_activity_varies_between_seconds_by_its_deviation() -> None:
    level = activity(_rng(0), Mains(50, 50 * 4000), deviation=0.83).reshape(-1, 50)
    assert (level == level[:, :1]).all()
    of_seconds = level[:, 0]
    assert of_seconds.mean() == pytest.approx(1, abs=0.15)
    assert of_seconds.std() / of_seconds.mean() == pytest.approx(1, abs=0.2)
    logarithm = np.log(of_seconds) - np.log(of_seconds).mean()
    assert (logarithm[1:] * logarithm[:-1]).mean() / logarithm.var() == pytest.approx(0.5, abs=0.1)


def test_corona_has_a_fifth_of_a_pulse_a_cycle_to_fifty() -> None:
    rates = []
    for n in range(40):
        pulses = unsteady_corona_pulses(1.3, _rng(n, 0), _rng(n, 1), SHORT)
        rates.append(pulses.cycle.size / SHORT.cycles)
        negative = np.abs(pulses.phase - 270) < 90
        assert np.array_equal(pulses.charge < 0, negative)
    assert min(rates) < 1 < 10 < max(rates) < 70


@pytest.mark.parametrize("of_kind", [void_gap, surface_gap])
def test_many_sites_lift_the_median(of_kind) -> None:
    session = _session("normal")
    base = of_kind(1.5, _rng(3))
    pulses = gap_discharges(crowded_gap(base, 1.5, _rng(4)), _rng(5), mains=session.mains)
    many = held_counts(pulses, session.recorder, session.mains, _rng(6), "unipolar")
    none = simulate_field_recording(session, rng=_rng(6))
    pedestal = session.recorder.pedestal
    assert np.median(many) - pedestal > 3 * (np.median(none) - pedestal)


def test_the_phase_of_a_gap_depends_on_no_frequency_and_its_sign_on_the_half_cycle() -> None:
    gap = void_gap(1.5, _rng(2))
    fifty, sixty = (
        gap_discharges(gap, _rng(3), mains=Mains(f, 600), signed=True) for f in (50, 60)
    )
    a, b = (np.exp(2j * np.radians(p.phase)).mean() for p in (fifty, sixty))
    assert abs(a - b) < 0.1
    assert {int(fifty.cycle.min()), int(fifty.cycle.max())} == {0, 599}
    # Discharges before the zero crossing have the sign of the half-cycle that follows.
    early = (sixty.phase + 45) % 360 < 180
    assert ((sixty.charge > 0) == early).mean() > 0.95


@pytest.mark.parametrize("kind", FIELD_CLASSES)
def test_a_signed_recording_is_the_magnitude_of_its_values(kind: str) -> None:
    session = _session(kind)
    unsigned, signed = (
        simulate_field_recording(session, rng=_rng(7), polarity=p) for p in ("unipolar", "bipolar")
    )
    assert unsigned.shape == signed.shape == (100, 128)
    assert unsigned.min() >= 0
    clear = np.abs(signed) > 8 * session.recorder.sigma
    same = np.minimum(np.abs(signed[clear]) + session.recorder.pedestal, 255)
    assert np.abs(unsigned[clear] - same).max(initial=0) <= 1
    if kind in ("void", "floating"):
        signs = np.sign(signed[clear])
        assert 0.1 < (signs > 0).mean() < 0.9


def test_a_ringing_sensor_turns_signs_and_a_tail_is_a_second_pulse() -> None:
    session = _session("floating", ringing=1.0, tail=0.5)
    sent = Pulses(np.arange(90), np.full(90, 350, np.float32), np.full(90, 50, np.float32))
    seen = recorded_pulses(sent, session.recorder, session.mains, _rng(1))
    first, second = seen.charge[:90], seen.charge[90:]
    assert 0.2 < (first < 0).mean() < 0.8
    np.testing.assert_allclose(second, 0.5 * first, rtol=1e-6)
    turned = (sent.phase[0] + session.recorder.offset_deg) % 360
    np.testing.assert_allclose(seen.phase[:90], turned, atol=1e-3)
    np.testing.assert_allclose(seen.phase[90:], (turned + 360 / 128) % 360, atol=1e-3)


@pytest.mark.parametrize("sensor", ["HFCT", "UHF", "antenna"])
def test_a_waveform_shows_the_answer_of_the_sensor_where_the_pulse_is(sensor: str) -> None:
    session = _session("void", sensor=sensor, sigma=1e-6, offset_deg=0.0, gain=10.0, pedestal=0.0)
    mains = Mains(50, 2)
    pulse = Pulses(np.array([1]), np.array([90], np.float32), np.array([-100], np.float32))
    values = sampled_waveform(
        pulse, session.recorder, mains, 50_000, character=_rng(0), rng=_rng(1)
    )
    assert values.shape == (2000,)
    begin = 1000 + 250
    peak = int(np.argmax(np.abs(values)))
    assert begin <= peak <= begin + 2
    assert not values[: begin - 1].any()
    assert np.abs(values[begin + 24 :]).max() == 0
    assert (values >= 0).all() == (sensor == "UHF")
    assert np.sign(values[peak]) == (1 if sensor == "UHF" else -1)


def test_a_short_waveform_holds_the_pulse_that_triggered_it() -> None:
    session = plan_field_session(3, 9, seed=1, classes=("corona",), frequency=50, cycles=2)
    calm = replace(session, recorder=replace(session.recorder, sigma=1e-6), background=0.0)
    calm = replace(calm, interference=0.0)
    for n in range(5):
        rest = calm.recorder.pedestal if calm.recorder.sensor == "UHF" else 0.0
        assert np.abs(simulate_waveform(calm, rate=100_000, rng=_rng(n)) - rest).max() > 2


def test_every_class_has_pulses_but_the_normal_one() -> None:
    for kind in FIELD_CLASSES:
        pulses = field_pulses(kind, 1.4, _rng(2), _rng(3), SHORT)
        assert bool(pulses.charge.size) == (kind != "normal")
        assert ((pulses.cycle >= 0) & (pulses.cycle < SHORT.cycles)).all()


SMALL = {"tier": "field", "count": 14, "sessions": 14, "cycles": 20, "seed": 2, "workers": 1}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_table_is_read_as_any_other(tmp_path: Path) -> None:
    table = make_recordings(tmp_path / "made", **SMALL)  # type: ignore[arg-type]
    assert is_simulated(table) and is_simulated(table.parent)
    assert not is_simulated(tmp_path)
    source = open_source(table)
    assert set(source.kinds) == set(FIELD_CLASSES)
    assert {ref.frequency for ref in source.refs} == {50.0, 60.0}
    assert {name for ref in source.refs for name in ref.group} == {
        "session",
        "equipment",
        "insulator",
        "sensor",
    }
    assert len({ref.group["session"] for ref in source.refs}) == 14
    for ref in source.refs:
        sample = source.load(ref)
        assert sample.series is not None and sample.image is not None
        assert sample.series.shape == (1, 20 * 128)
        assert sample.image.shape == (256, 256, 3)
        assert ref.kind not in Path(ref.source).name
    make_recordings(tmp_path / "two", **{**SMALL, "workers": 2})  # type: ignore[arg-type]
    assert _files(tmp_path / "two") == _files(tmp_path / "made")
    with pytest.raises(DataError, match="already holds"):
        make_recordings(tmp_path / "made", **SMALL)  # type: ignore[arg-type]


def test_classes_frequency_signs_and_waveforms_are_chosen(tmp_path: Path) -> None:
    chosen = {**SMALL, "classes": ("floating", "particle"), "frequency": 50.0}
    signed = open_source(make_recordings(tmp_path / "a", **chosen, polarity="bipolar"))  # type: ignore[arg-type]
    assert signed.kinds == ("floating", "particle")
    assert {ref.frequency for ref in signed.refs} == {50.0}
    lows = [float(signed.load(ref).series.min()) for ref in signed.refs]  # type: ignore[union-attr]
    assert max(lows) < 0
    waves = {**chosen, "waveform": 10_000.0, "cycles": None}
    sampled = open_source(make_recordings(tmp_path / "b", **waves))  # type: ignore[arg-type]
    sample = sampled.load(sampled.refs[0])
    assert sample.image is None
    assert sample.series is not None and sample.series.shape == (1, 400)
    assert sample.samples_per_cycle == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("arc",)}, "floating, particle"),
        ({"tier": "hard", "classes": ("floating",)}, "floating"),
        ({"tier": "easy", "frequency": 50.0}, "tier field"),
        ({"tier": "easy", "polarity": "bipolar"}, "tier field"),
        ({"tier": "hard", "waveform": 1e5}, "tier field"),
        ({"polarity": "decibel"}, "unipolar, bipolar"),
        ({"frequency": 5.0}, "frequency=5"),
        ({"cycles": 3}, "cycles=3"),
        ({"waveform": 500_000.0}, "50 and 60 Hz"),
        ({"waveform": 500.0, "frequency": 50.0}, "32 or more"),
        ({"pairing": "jittered"}, "exactly"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    options = {"cycles": None if options.get("tier") else 20, **options}
    with pytest.raises(ConfigurationError, match=message):
        make_recordings(tmp_path / "new", **{**SMALL, **options})  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()
