"""Pulses within the noise show as levels that are passed more often at their phase."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.preparation.excess import LEVELS, passed_levels, patterns, phase_excess
from chiasm.diagnosis.preparation.relative import floor_deviation, relative_series
from chiasm.diagnosis.preparation.scales import SeriesScale, estimate_scale, finished, scaled

CYCLE, CYCLES = 128, 200


def floor(seed: int = 0) -> np.ndarray:
    """A Rayleigh floor as a peak-holding recorder shows it, ``(1, CYCLES * CYCLE)``."""
    return np.random.default_rng(seed).rayleigh(8.0, (1, CYCLES * CYCLE)).astype(np.float32)


def with_weak_pulses(phase: int, *, seed: int = 0) -> np.ndarray:
    """The floor with pulses no higher than itself, at 24 neighbouring phases of every cycle."""
    made = floor(seed).reshape(CYCLES, CYCLE)
    for place in range(phase, phase + 24):
        made[:, place % CYCLE] = np.maximum(made[:, place % CYCLE], 14.0)
    return made.reshape(1, -1)


def above(values: np.ndarray) -> np.ndarray:
    return (values - np.median(values[:, ::7])).astype(np.float32)


def test_counts_are_those_of_a_loop() -> None:
    values = np.random.default_rng(1).normal(0, 2, (2, 83)).astype(np.float32)
    made = passed_levels(values, floor_deviation(values, 0.1))
    for channel in range(2):
        deviation = 1.4826 * np.median(np.abs(values[channel, ::7])) + 0.1
        for group in range(83 // 4):
            four = values[channel, 4 * group : 4 * group + 4]
            expected = [sum(four > level * deviation) for level in LEVELS]
            assert made[channel, 4 * group : 4 * group + 4].tolist() == expected
    assert not made[:, 80:].any()


def test_noise_alone_exceeds_nowhere() -> None:
    values = above(floor())
    sums = passed_levels(values, floor_deviation(values, 0.1)).reshape(-1, 32, 4).sum(axis=0)
    z = np.expm1(np.abs(phase_excess(sums, trials=4 * CYCLES)))
    assert z.max() < 5  # 128 cells: 5 deviations are for pulses


def test_pulses_within_the_floor_are_seen_where_clear_pulses_are_not() -> None:
    values = above(with_weak_pulses(40))
    deviation = floor_deviation(values, 0.1)
    assert relative_series(values, deviation).sum() < 0.002 * values.size
    sums = passed_levels(values, deviation).reshape(-1, 32, 4).sum(axis=0)
    excess = phase_excess(sums, trials=4 * CYCLES)[:, 0]
    assert set(np.flatnonzero(excess > np.log1p(5))) == set(range(10, 16))


@pytest.mark.parametrize("phase", [0, 52, 112])
def test_a_pattern_lies_at_a_phase_of_its_own(phase: int) -> None:
    made = []
    for shift in (0, phase):
        by_cycle = with_weak_pulses(20).reshape(CYCLES, CYCLE)
        values = above(np.roll(by_cycle, shift, axis=1).reshape(1, -1))
        deviation = floor_deviation(values, 0.1)
        counts, passed = relative_series(values, deviation), passed_levels(values, deviation)
        pairs = patterns(counts, passed, cycle=CYCLE, fold=CYCLES, least=1, aligned=True)
        made.append(pairs.reshape(2, 32, 4)[1])
    # Levels are estimated from every seventh value, which are others when all have moved.
    assert np.abs(made[0] - made[1]).mean() < 0.2
    assert made[0][0, 0] > 2 and made[0][16, 0] < 1


def test_runs_are_pairs_and_a_short_series_is_one() -> None:
    scale = SeriesScale(
        full=1.0, spread=1.0, relative=True, cycle=CYCLE, fold=50, least=2, excess=True
    )
    assert scale.shrink == 25
    whole = finished(floor(), scale)
    assert whole.shape == (1, 2 * (CYCLES // 50) * CYCLE)
    assert finished(floor()[:, : 10 * CYCLE], scale).shape == (1, 2 * CYCLE)
    assert replace(scale, excess=False).shrink == 50


def test_gain_and_pedestal_do_not_matter() -> None:
    scale = SeriesScale(
        full=1.0, spread=1.0, relative=True, cycle=CYCLE, fold=50, least=2, excess=True
    )
    one, other = (finished(with_weak_pulses(40) * gain + 3, scale) for gain in (4.0, 12.0))
    assert np.abs(one - other).mean() < 0.05  # rounding to whole counts is added to the floor
    some = [with_weak_pulses(40, seed=seed) for seed in range(3)]
    chosen = estimate_scale(
        some, standardised=True, relative=True, cycle=CYCLE, fold=50, least=2, excess=True
    )
    values = np.concatenate([finished(scaled(s, chosen), chosen) for s in some])
    assert values.std() == pytest.approx(1, rel=1e-3)
