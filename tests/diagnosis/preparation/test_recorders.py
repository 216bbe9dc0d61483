"""A pulse counts alike, whoever recorded it: upwards, downwards, in decibel, at any sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.preparation.network_inputs import RecordingForm, recording_arrays
from chiasm.diagnosis.preparation.recorders import (
    CYCLE,
    bins_of,
    channels_of,
    check_polarity,
    held_peaks,
    magnitudes,
    recognised_polarity,
)
from chiasm.diagnosis.preparation.scales import SeriesScale, estimate_scale
from chiasm.errors import DataError
from chiasm.samples import RecordingSample

FLOOR = 10.0


def positive(rng: np.random.Generator, cycles: int = 40, per_cycle: int = CYCLE) -> np.ndarray:
    """A floor of magnitudes, and four pulses a cycle at a quarter of it."""
    series = FLOOR + 3 * np.abs(rng.standard_normal((1, cycles * per_cycle)))
    where = np.arange(per_cycle // 4, cycles * per_cycle, per_cycle)
    series[0, where] += 60 + 5 * rng.random(cycles)
    return series.astype(np.float32)


def written(series: np.ndarray, polarity: str, rng: np.random.Generator) -> np.ndarray:
    if polarity == "negative":
        return -series
    if polarity == "decibel":
        return -80 + series / 3
    if polarity == "bipolar":
        return (series - FLOOR) * rng.choice([-1, 1], series.shape).astype(np.float32)
    return series


@pytest.mark.parametrize("polarity", ["unipolar", "negative", "decibel", "bipolar"])
def test_a_polarity_is_told_from_the_values(polarity):
    rng = np.random.default_rng(0)
    series = [written(positive(rng), polarity, rng) for _ in range(4)]
    assert recognised_polarity(series) == polarity


def test_an_offset_of_the_converter_is_no_polarity():
    rng = np.random.default_rng(0)
    signed = written(positive(rng), "bipolar", rng)
    assert recognised_polarity([signed + 32768]) == "bipolar"
    # Noise about 0 with pulses upwards alone.
    upwards = rng.standard_normal((1, 4000)).astype(np.float32)
    upwards[0, ::100] += 50
    assert recognised_polarity([upwards]) == "unipolar"


def test_noise_alone_says_nothing_of_its_sign():
    noise = np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32)
    assert recognised_polarity([noise]) is None
    assert recognised_polarity([noise - 90]) is None
    assert recognised_polarity([np.zeros((1, 100), np.float32)]) == "unipolar"


@pytest.mark.parametrize("polarity", ["unipolar", "negative", "decibel", "bipolar"])
def test_pulses_are_upwards_and_nothing_is_lost(polarity):
    rng = np.random.default_rng(1)
    series = positive(rng)
    upwards = np.asarray(magnitudes(written(series, polarity, rng), polarity), np.float64)
    assert upwards.shape == (channels_of(polarity, 1), series.shape[1])
    peaks = np.flatnonzero(series[0] > 40)
    assert set(np.argsort(upwards.max(axis=0))[-len(peaks) :]) == set(peaks)
    if polarity in ("unipolar", "negative"):
        difference = upwards[0] - series[0]
        assert np.ptp(difference) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("per_cycle", [20, 100, 127, 128, 129, 500, 1920])
def test_peaks_are_held_in_the_bin_of_their_phase(per_cycle):
    rng = np.random.default_rng(2)
    cycles = 5
    series = rng.random((2, cycles * per_cycle + per_cycle // 2)).astype(np.float32)
    held = held_peaks(series, per_cycle=per_cycle, cycle=CYCLE)
    total = bins_of(series.shape[1], per_cycle=per_cycle, cycle=CYCLE)
    assert held.shape == (2, total)
    # Independently: each value belongs to the bin in which its phase begins.
    for channel, cycle in ((0, 0), (1, cycles - 1)):
        values = series[channel, cycle * per_cycle : (cycle + 1) * per_cycle]
        bins = held[channel, cycle * CYCLE : (cycle + 1) * CYCLE]
        if per_cycle >= CYCLE:
            number = np.arange(per_cycle) * CYCLE // per_cycle
            expected = [values[number == b].max() for b in range(CYCLE)]
            np.testing.assert_array_equal(bins, expected)
        else:
            assert set(bins) == set(values)  # held, and none is lost
            assert abs(bins.argmax() / CYCLE - (values.argmax() + 0.5) / per_cycle) <= 1 / per_cycle
    if per_cycle == CYCLE:
        assert held is series


FORM = RecordingForm(32, 1, CYCLE, 256, SeriesScale())


def network_input(series: np.ndarray, polarity: str, per_cycle: int) -> np.ndarray:
    form = replace(FORM, polarity=polarity, channels=channels_of(polarity, 1))
    scale = estimate_scale(
        [form.magnitudes(series, per_cycle)],
        standardised=True,
        relative=True,
        cycle=CYCLE,
        fold=2,
        least=2,
        excess=True,
    )
    sample = RecordingSample(None, series, samples_per_cycle=per_cycle)
    return recording_arrays(sample, replace(form, series=scale), ("series",))["series"]


@pytest.mark.parametrize("polarity", ["negative", "bipolar", "decibel"])
def test_the_network_sees_pulses_of_every_polarity(polarity):
    rng = np.random.default_rng(3)
    series = written(positive(rng), polarity, rng)
    arrays = network_input(series, polarity, CYCLE)
    quiet = network_input(written(np.full_like(series, FLOOR), polarity, rng), polarity, CYCLE)
    assert np.abs(arrays).max() > 1
    assert np.abs(quiet).max() < 0.1 * np.abs(arrays).max()


def test_volts_are_read_as_counts_are():
    rng = np.random.default_rng(4)
    counts = np.rint(positive(rng))
    volts = (counts * np.float32(2.5e-5)).astype(np.float32)
    np.testing.assert_allclose(
        network_input(volts, "unipolar", CYCLE), network_input(counts, "unipolar", CYCLE), atol=2e-3
    )


def test_a_recording_of_another_polarity_is_refused_with_a_remedy():
    rng = np.random.default_rng(5)
    series = positive(rng)
    check_polarity(series, "unipolar", "a.npy")
    check_polarity(rng.standard_normal((1, 4000)).astype(np.float32), "unipolar", "noise.npy")
    for polarity in ("negative", "bipolar"):
        with pytest.raises(DataError, match=r"a\.npy .* was trained on .*magnitudes.* train a"):
            check_polarity(written(series, polarity, rng), "unipolar", "a.npy")
    with pytest.raises(DataError, match="decibel"):
        check_polarity(written(series, "decibel", rng), "negative", "a.npy")
