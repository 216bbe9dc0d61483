"""Corruptions do what they say, alike in both modalities, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.augmentation.corruptions import (
    CORRUPTIONS,
    GAINS,
    LENGTHS_S,
    LEVELS,
    MISPAIRED,
    NOISES_DB,
    PHASES_DEG,
    add_noise,
    amplify,
    mispair,
    partners,
    recolour,
    shift_phase,
    shorten,
)
from chiasm.diagnosis.simulator.image import draw_prpd
from chiasm.diagnosis.simulator.sessions import plan_session
from chiasm.diagnosis.simulator.simulator import simulate_recording
from chiasm.errors import DataError
from chiasm.samples import RecordingSample

CYCLE = 128


def recorded(number: int, kind: str) -> RecordingSample:
    latents = plan_session(number, 5, tier="easy", seed=3).latents
    counts, _ = simulate_recording(kind, latents=latents, rng=np.random.default_rng(number))
    return RecordingSample(
        image=draw_prpd(counts).astype(np.float32) / 255,
        series=counts.reshape(1, -1).astype(np.float32),
        label=number,
        kind=kind,
        source=f"{kind}.png",
    )


@pytest.fixture(scope="module")
def corona() -> RecordingSample:
    return recorded(3, "corona")


@pytest.fixture(scope="module")
def void() -> RecordingSample:
    return recorded(4, "void")


def same(one: RecordingSample, other: RecordingSample) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.series, other.series)


def folded(sample: RecordingSample) -> np.ndarray:
    """Mean amplitude by phase bin."""
    return sample.series.reshape(-1, CYCLE).mean(axis=0)


@pytest.mark.parametrize("degrees", PHASES_DEG)
def test_phase_shift_turns_series_and_picture_alike(corona, degrees):
    turned = shift_phase(corona, degrees)
    bins = round(degrees / 360 * CYCLE)
    np.testing.assert_allclose(folded(turned), np.roll(folded(corona), bins), rtol=1e-5)
    # Two columns of the picture are one bin of the series.
    assert np.array_equal(turned.image, np.roll(corona.image, 2 * bins, axis=1))


def test_phase_shift_moves_values_by_whole_bins(corona):
    turned = shift_phase(corona, 30)
    assert np.array_equal(turned.series[:, 11:], corona.series[:, :-11])
    assert np.array_equal(turned.series[:, :11], corona.series[:, -11:])


def test_opposite_phase_shifts_undo_each_other(corona):
    assert same(shift_phase(shift_phase(corona, 60), -60), corona)


def test_a_cut_last_cycle_keeps_its_phase(corona):
    cut = replace(corona, series=corona.series[:, : 10 * CYCLE + 40])
    turned = shift_phase(cut, 90)
    assert turned.series.shape == cut.series.shape
    assert np.array_equal(turned.series[:, 32:], cut.series[:, :-32])
    assert np.array_equal(turned.series[:, :32], cut.series[:, 10 * CYCLE - 32 : 10 * CYCLE])


def test_strength_of_nothing_changes_nothing(corona):
    for untouched in (
        shift_phase(corona, 0),
        shift_phase(corona, 360),
        amplify(corona, 1),
        shorten(corona, 20),
        shorten(corona, 60),
        mispair(corona, corona),
    ):
        assert same(untouched, corona)
    quiet = add_noise(corona, 200)
    np.testing.assert_allclose(quiet.series, corona.series, atol=1e-4)
    np.testing.assert_allclose(quiet.image, corona.image, atol=1e-6)


@pytest.mark.parametrize("gain", GAINS)
def test_gain_is_of_the_series_alone(corona, gain):
    louder = amplify(corona, gain)
    np.testing.assert_allclose(louder.series, corona.series * gain, rtol=1e-6)
    assert np.array_equal(louder.image, corona.image)


@pytest.mark.parametrize("snr_db", NOISES_DB)
def test_noise_has_the_power_that_it_names(snr_db):
    draw = np.random.default_rng(0)
    # Far from 0 and 1, so that nothing is clipped.
    image = np.full((128, 128, 3), 0.5, np.float32)
    image[:16] += draw.choice(np.float32([-0.05, 0.05]), (16, 128, 3))
    series = 500 + draw.standard_normal((2, 12800)).astype(np.float32) * [[3], [30]]
    sample = RecordingSample(image=image, series=series.astype(np.float32))
    changed = add_noise(sample, snr_db)
    for before, after, quiet in (
        *((sample.series[c], changed.series[c], np.median(sample.series[c])) for c in (0, 1)),
        (sample.image, changed.image, 0.5),
    ):
        signal, noise = np.mean((before - quiet) ** 2), np.mean((after - before) ** 2)
        assert 10 * np.log10(signal / noise) == pytest.approx(snr_db, abs=0.3)


@pytest.mark.parametrize("seconds", LENGTHS_S)
def test_a_shortened_recording_is_the_beginning_in_whole_cycles(corona, seconds):
    short = shorten(corona, seconds)
    assert short.series.shape == (1, seconds * 60 * CYCLE)
    assert np.array_equal(short.series, corona.series[:, : seconds * 60 * CYCLE])
    assert np.array_equal(short.image, corona.image)
    assert shorten(corona, 0.001).series.shape == (1, CYCLE)


def test_recoloured_pictures(corona):
    grey = recolour(corona, "grey").image
    assert np.array_equal(grey[..., 0], grey[..., 2])
    turned = recolour(recolour(corona, "inverted"), "inverted").image
    np.testing.assert_allclose(turned, corona.image, atol=1e-6)
    mapped = recolour(corona, "colour map").image
    white = (corona.image == 1).all(axis=2)
    assert white.any()
    assert (mapped[white] == 1).all()
    coloured = np.ptp(corona.image, axis=2) > 0.5
    assert (np.abs(mapped - corona.image)[coloured].max(axis=1) > 0.05).mean() > 0.9


def test_mispairing_takes_the_picture_and_leaves_all_else(corona, void):
    wrong = CORRUPTIONS[MISPAIRED](corona, void)
    assert wrong.image is void.image
    assert wrong.series is corona.series
    assert (wrong.label, wrong.source) == (corona.label, corona.source)


def test_partners_are_of_another_class():
    labels = np.array([0, 0, 0, 1, 2])
    indices = partners(labels, seed=1)
    assert (labels[indices] != labels).all()
    assert indices == partners(labels, seed=1)
    with pytest.raises(DataError, match="one class"):
        partners([2, 2])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_pure_deterministic_and_keeps_its_range(corona, void, name):
    image, series = corona.image.copy(), corona.series.copy()
    once, twice = (CORRUPTIONS[name](corona, void) for _ in range(2))
    assert same(once, twice)
    assert not same(once, corona)
    assert np.array_equal(corona.image, image)
    assert np.array_equal(corona.series, series)
    assert once.image.dtype == once.series.dtype == np.float32
    assert once.image.min() >= 0
    assert once.image.max() <= 1
    assert np.isfinite(once.series).all()
    assert (once.label, once.group, once.source) == (corona.label, corona.group, corona.source)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("absent", ["image", "series"])
def test_an_absent_modality_stays_absent(corona, void, name, absent):
    alone = CORRUPTIONS[name](replace(corona, **{absent: None}), replace(void, **{absent: None}))
    assert getattr(alone, absent) is None
    kept = "series" if absent == "image" else "image"
    assert getattr(alone, kept) is not None


def test_noise_does_not_depend_on_the_order_of_recordings(corona, void):
    assert same(add_noise(corona, 10), add_noise(replace(corona, source="elsewhere.png"), 10))
    first, second = (add_noise(s, 10).series - s.series for s in (corona, void))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_every_corruption_has_a_family_and_a_strength():
    assert set(LEVELS) == set(CORRUPTIONS)
    assert len(set(LEVELS.values())) == len(LEVELS)
