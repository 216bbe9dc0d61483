"""Quantities of made pulses are the known ones, whether listed or found in a series."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from chiasm.diagnosis.quantities.assessment import clipped_pulses, recording_quantities
from chiasm.diagnosis.quantities.charge_quantities import (
    PULSE_TRAIN_RESPONSE,
    TIME_CONSTANT_S,
    peak_reading,
    quantities_of,
)
from chiasm.diagnosis.quantities.pulse_extraction import extract_pulses
from chiasm.discharge import AppliedVoltage, MeasuringSystem, Pulses, Quantities
from chiasm.samples import RecordingSample

RNG = np.random.default_rng(5)
SECONDS, FREQUENCY, CYCLE = 4.0, 50.0, 200  # 10,000 values a second


def made(count: int = 300, low: float = 200.0) -> tuple[np.ndarray, Pulses]:
    """Return a series of noise with pulses, and the pulses, two values apart at least."""
    total = round(SECONDS * FREQUENCY * CYCLE)
    place = np.sort(RNG.choice(np.arange(1, total // 2), count, replace=False)) * 2
    charge = low + 300 * RNG.random(count)
    series = 40 + 5 * RNG.standard_normal(total)
    series[place] = 40 + charge
    phase = (place % CYCLE + 0.5) * 360 / CYCLE
    return series.astype(np.float32), Pulses(phase, charge, place / (FREQUENCY * CYCLE))


def quantities(pulses: Pulses, **options) -> Quantities:
    return quantities_of(pulses, **{"duration_s": SECONDS, "frequency": FREQUENCY} | options)


@pytest.mark.parametrize("way", ["unipolar", "negative", "bipolar", "decibel"])
def test_pulses_of_a_series_have_the_quantities_of_their_list(way: str):
    series, pulses = made()
    known = quantities(pulses)
    if way == "negative":
        series = -series
    elif way == "bipolar":
        sign = np.where(RNG.random(len(pulses.phase)) < 0.5, 1, -1)
        series = series - 40
        series[np.rint(pulses.time * FREQUENCY * CYCLE).astype(int)] *= sign
        series = series.astype(np.float32)
    elif way == "decibel":
        series = (20 * np.log10(np.maximum(series, 1) / 1e6)).astype(np.float32)
        known = quantities(Pulses(pulses.phase, pulses.amplitude / 1e6, pulses.time))
    sample = RecordingSample(None, series[None], FREQUENCY, CYCLE)
    found = recording_quantities(sample)
    assert found.pulses == 300 and found.rate_per_s == 75.0 and found.rate_per_cycle == 1.5
    for name in ("charge_repeated", "charge_10_per_s", "charge_largest", "current_per_s"):
        assert getattr(found, name) == pytest.approx(getattr(known, name), rel=2e-3), name
    assert found.quadratic_rate_per_s == pytest.approx(known.quadratic_rate_per_s, rel=3e-3)


def test_sums_are_those_of_the_definitions():
    charge, phase = np.array([100.0, -50.0, 30.0]), np.array([90.0, 270.0, 0.0])
    pulses = Pulses(phase, charge, np.array([0.1, 0.2, 0.3]))
    system = MeasuringSystem(2.0, voltage=AppliedVoltage(np.zeros(1), np.array([10.0])))
    found = quantities(pulses, duration_s=2.0, system=system)
    assert found.unit == "pC" and found.calibrated
    assert found.current_per_s == (200 + 100 + 60) / 2
    assert found.quadratic_rate_per_s == (200**2 + 100**2 + 60**2) / 2
    # Both large pulses have the sign of the voltage at its peaks.
    assert found.power_kv_per_s == pytest.approx(math.sqrt(2) * 10 * (200 + 100) / 2)
    assert found.named()["current_pa"] == 180 and "power_nw" in found.named()
    plain = quantities(pulses, duration_s=2.0)
    assert plain.unit == "uncalibrated" and plain.current_per_s == 90
    assert "charge_largest_uncalibrated" in plain.named()
    assert "calibration" in " ".join(plain.remarks)


@pytest.mark.parametrize(("rate", "least", "most"), PULSE_TRAIN_RESPONSE)
def test_equal_pulses_are_read_within_the_limits_of_the_standard(rate, least, most):
    time = np.arange(0, 20, 1 / rate)
    assert least < peak_reading(time, np.full(len(time), 100.0), 20.0) < most


def test_a_hundred_pulses_a_second_are_read_in_full_in_any_order():
    time = RNG.permutation(np.arange(0, 3, 0.01))
    assert peak_reading(time, np.full(len(time), 7.0), 3.0) == pytest.approx(7.0, rel=1e-9)


def test_the_peak_meter_is_that_of_a_simulation_in_steps():
    time, charge = np.sort(3 * RNG.random(40)), 100 * RNG.random(40)
    step, held, output = 2e-4, 0.0, []
    arrivals = np.rint(time / step).astype(int)
    for n in range(round(3 / step)):
        held *= math.exp(-step / TIME_CONSTANT_S)
        held = max([held, *charge[arrivals == n]])
        output.append(held)
    means = np.convolve(output, np.full(round(1 / step), step), "valid")
    full = TIME_CONSTANT_S / 0.01 * -math.expm1(-0.01 / TIME_CONSTANT_S)
    assert peak_reading(time, charge, 3.0) == pytest.approx(means.max() / full, rel=5e-3)


def test_a_single_large_pulse_among_many_counts_less_than_repeated_ones():
    time = np.arange(0, 10, 0.01)
    charge = np.full(len(time), 10.0)
    charge[500] = 100.0
    single = quantities(Pulses(np.zeros(len(time)), charge, time), duration_s=10.0)
    assert single.charge_largest == 100 and 30 < single.charge_repeated < 50
    assert single.charge_10_per_s == 10
    few = quantities(Pulses(np.zeros(5), charge[:5], time[:5]), duration_s=10.0)
    assert few.charge_10_per_s is None


def test_a_ring_is_one_pulse_and_a_later_one_another():
    rate = 1_000_000
    series = np.zeros(40_000, np.float32)
    series += 0.5 * RNG.standard_normal(40_000)
    ring = 100 * np.exp(-np.arange(15) / 5) * np.cos(np.arange(15) * 1.5)
    for start in (5_000, 5_100, 25_000):
        series[start : start + 15] += ring
    options = {"frequency": 50.0, "samples_per_cycle": rate // 50, "polarity": "bipolar"}
    found = extract_pulses(series, **options)
    assert len(found.index) == 3 and np.abs(found.pulses.amplitude).min() > 95
    assert len(extract_pulses(series, **options, dead_time_s=1e-3).index) == 2
    assert len(extract_pulses(series, **options, dead_time_s=1e-6).index) > 3


def test_noise_alone_has_next_to_no_pulse():
    floor = 20 + 5 * np.sqrt(2 * RNG.standard_exponential(100_000))
    series = np.rint(floor).astype(np.float32)
    assert len(extract_pulses(series, frequency=60, samples_per_cycle=128).index) <= 3


def test_equal_pulses_on_a_silent_floor_are_found_and_coarse_noise_is_none():
    series = np.zeros(12_800, np.float32)
    series[::128] = 10
    assert len(extract_pulses(series, frequency=60, samples_per_cycle=128).index) == 100
    coarse = (RNG.random(12_800) < 0.3).astype(np.float32)  # one step of the recorder
    assert not len(extract_pulses(coarse, frequency=60, samples_per_cycle=128).index)


def ramp(up: float = 10.0, down: float = 10.0, top: float = 20.0) -> AppliedVoltage:
    return AppliedVoltage(np.array([0, up, up + down]), np.array([0.0, top, 0.0]))


def test_inception_and_extinction_are_the_voltages_of_the_first_and_the_last_run():
    time = np.concatenate([[1.0], np.arange(6.0, 17.0, 0.05), [19.4]])  # single pulses are none
    pulses = Pulses(np.zeros(len(time)), np.ones(len(time)), time)
    found = quantities(pulses, duration_s=20.0, system=MeasuringSystem(voltage=ramp()))
    assert found.inception_kv == pytest.approx(12.0, abs=0.01)
    assert found.extinction_kv == pytest.approx(6.1, abs=0.15)


@pytest.mark.parametrize(
    ("times", "voltage", "said"),
    [
        (np.arange(0, 15, 0.05), AppliedVoltage(np.r_[0.0, 15.0], np.r_[8.0, 20.0]), "Inception"),
        (np.arange(3, 15, 0.05), AppliedVoltage(np.r_[0.0, 15.0], np.r_[0.0, 20.0]), "Extinction"),
        (np.arange(3, 15, 2.0), ramp(), "not repetitive"),
        (np.arange(3, 15, 0.05), AppliedVoltage(np.r_[0.0, 15.0], np.r_[12.0, 12.1]), "no ramp"),
    ],
)
def test_a_limit_that_lies_outside_of_the_recording_is_not_made_up(times, voltage, said):
    pulses = Pulses(np.zeros(len(times)), np.ones(len(times)), times)
    found = quantities(pulses, duration_s=15.0, system=MeasuringSystem(voltage=voltage))
    assert (found.inception_kv if said != "Extinction" else found.extinction_kv) is None
    assert said in " ".join(found.remarks)


def test_a_pattern_without_times_has_charges_and_no_rates():
    pulses = Pulses(np.array([10.0, 20.0]), np.array([5.0, 9.0]), None, np.array([7.0, 2.0]))
    found = quantities(pulses, duration_s=None)
    assert found.pulses == 9 and found.charge_largest == 9
    absent = {f.name for f in fields(found) if getattr(found, f.name) is None}
    assert {"rate_per_s", "charge_repeated", "current_per_s", "power_kv_per_s"} <= absent
    assert "no times" in " ".join(found.remarks)


def test_a_quiet_recording_has_no_charge():
    found = quantities(Pulses(np.zeros(0), np.zeros(0), np.zeros(0)))
    assert found.pulses == 0 and found.charge_repeated == 0 and found.rate_per_s == 0


def test_pulses_at_the_limit_of_the_recorder_are_told():
    assert clipped_pulses(np.array([255.0] * 9 + [250.0, 250, 100])) == 9
    assert clipped_pulses(np.array([255.0, 250, 250, 100])) == 0
    series = np.zeros((1, 1280), np.float32)
    series[0, ::40] = 255
    series[0, 20::80] = np.arange(100, 116)
    found = recording_quantities(RecordingSample(None, series))
    assert "upper limit" in " ".join(found.remarks)
