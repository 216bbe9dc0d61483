"""Evidence of growth: fair while nothing changes, and growing when something does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chiasm.diagnosis.monitoring.growth import (
    evidence,
    growths,
    least_recordings,
    neighbour_correlation,
    sequential_ranks,
    slope_of,
)


def test_the_wealth_is_a_fair_game_over_all_orders():
    """Over the orders of any distinct values its mean is 1 at every time: no share of the stake is
    lost or made up."""
    wealth = np.array(
        [evidence(np.array(order, float)) for order in itertools.permutations(range(5))]
    )
    assert np.allclose(wealth.mean(axis=0), 1.0)
    # Whatever was won so far: the mean over the next ranks is what one has (a martingale).
    for position in range(1, 4):
        for prefix in itertools.permutations(range(position)):
            same = [
                w
                for order, w in zip(itertools.permutations(range(5)), wealth, strict=True)
                if np.array_equal(np.argsort(np.argsort(order[:position])), prefix)
            ]
            now, then = np.array(same)[:, position - 1], np.array(same)[:, position]
            assert np.allclose(then.mean(), now[0])


def test_alarms_without_change_are_within_the_rate():
    rng = np.random.default_rng(5)
    rate, count = 0.2, 150
    alarms = sum(any(growths(rng.lognormal(size=30), rate=rate)) for _ in range(count))
    assert alarms <= rate * count  # proven; the margin of chance is on top of a conservative bound


@pytest.mark.parametrize("values", [np.zeros(40), np.tile([0.0, 1.0], 20)])
def test_ties_are_no_evidence(values):
    assert not list(growths(values, rate=0.05))


def test_a_change_among_ties_is_dated_by_what_changed():
    (found,) = growths(np.array([50.0] * 10 + [200.0] * 8), rate=0.0125)
    assert found.since == 10


def remembering(rng: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    noise = rng.standard_normal(count)
    for n in range(1, count):
        noise[n] = correlation * noise[n - 1] + np.sqrt(1 - correlation**2) * noise[n]
    return np.exp(0.4 * noise)


def test_neighbours_that_resemble_each_other_must_grow_in_blocks():
    rng = np.random.default_rng(7)
    many = [remembering(rng, 60, 0.7) for _ in range(25)]
    alone = [bool(evidence(values).max() >= 20) for values in many]
    found = [next(growths(values, rate=0.05), None) for values in many]
    # What is found is a part of what the ranks alone find; of what is told without a doubt less
    # than half is left.
    assert all(a or f is None for a, f in zip(alone, found, strict=True))
    assert sum(f is not None for f in found) < sum(alone)
    assert 2 * sum(f is not None and not f.alike for f in found) < sum(alone)
    # A change that is large beside the memory is found all the same.
    values = remembering(rng, 60, 0.7)
    values[30:] *= 20
    assert list(growths(values, rate=0.05))[-1].since >= 28


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_correlation_of_neighbours_is_not_that_of_a_change(correlation):
    values = remembering(np.random.default_rng(3), 400, correlation)
    steps, ramp = values * np.where(np.arange(400) < 200, 1, 20), values * 1.02 ** np.arange(400)
    for changed, since in ((values, 200), (steps, 200), (ramp, 200)):
        assert neighbour_correlation(changed, since) == pytest.approx(correlation, abs=0.2)


def test_a_step_is_found_soon_and_dated():
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(10, 1, 12), rng.normal(20, 1, 12)]
    growth = next(growths(values, rate=0.0125))
    assert growth.since == 12
    assert 12 < growth.position <= 20
    assert growth.evidence >= 80


def test_a_fall_raises_nothing_and_the_scale_has_no_influence():
    rng = np.random.default_rng(1)
    values = np.r_[rng.normal(20, 1, 12), rng.normal(10, 1, 12)]
    assert not list(growths(values, rate=0.0125))
    assert np.array_equal(evidence(values), evidence(np.exp(values / 5)))


def test_history_does_not_change_when_values_are_added():
    values = np.r_[np.random.default_rng(2).normal(size=15), np.arange(5, 20)]
    whole = list(growths(values, rate=0.0125))
    assert len(whole) > 1  # it goes on growing after the first alarm
    for found in whole:
        assert list(growths(values[: found.position + 1], rate=0.0125))[-1] == found
    assert np.allclose(evidence(values)[:20], evidence(values[:20]))


def test_the_fewest_recordings_are_those_of_a_steady_rise():
    count = least_recordings(0.0125)
    assert list(growths(np.arange(float(count)), rate=0.0125))
    assert not list(growths(np.arange(count - 1.0), rate=0.0125))


def test_sequential_ranks_agree_with_counting():
    values = np.random.default_rng(3).normal(size=30)
    expected = [1 + sum(values[:i] >= values[i]) for i in range(30)]
    assert sequential_ranks(values).tolist() == expected


def test_the_slope_is_the_median_of_pairs_and_few_have_none():
    days, values = np.arange(7.0), np.array([1.0, 3, 5, 7, 90, 11, 13])
    slope = slope_of(values, days)
    assert slope is not None and slope.low <= slope.per_day <= slope.high
    pairs = [(values[j] - values[i]) / (j - i) for i in range(7) for j in range(i + 1, 7)]
    assert slope.per_day == pytest.approx(np.median(pairs))
    assert slope_of(values[:4], days[:4]) is None
