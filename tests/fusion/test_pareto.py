"""Trade-offs: parity with a loop over all pairs, and what holds of fronts, crowding and knees."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chiasm.fusion.pareto import best_first, crowding, dominates, fronts, knee

# Few values, so that there are equal points and equal coordinates.
POINTS = st.integers(1, 3).flatmap(
    lambda m: arrays(
        float, st.tuples(st.integers(1, 12), st.just(m)), elements=st.integers(0, 4).map(float)
    )
)
FAST = settings(max_examples=40, deadline=None)


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))


def peeled(points: np.ndarray) -> list[int]:
    """The front of each point, by taking away what nothing beats, again and again."""
    left, found, number = set(range(len(points))), [-1] * len(points), 0
    while left:
        best = {i for i in left if not any(beats(points[j], points[i]) for j in left)}
        for i in best:
            found[i] = number
        left -= best
        number += 1
    return found


@FAST
@given(POINTS)
def test_fronts_and_dominance_equal_a_loop_over_all_pairs(points):
    expected = [[beats(a, b) for b in points] for a in points]
    assert dominates(points).tolist() == expected
    assert fronts(points).tolist() == peeled(points)


@FAST
@given(POINTS, st.randoms(use_true_random=False))
def test_fronts_do_not_depend_on_order_or_scale(points, rng):
    order = list(range(len(points)))
    rng.shuffle(order)
    assert fronts(points[order]).tolist() == fronts(points)[order].tolist()
    assert fronts(3.0 * points + 7.0).tolist() == fronts(points).tolist()


@FAST
@given(POINTS)
def test_the_best_come_first_front_by_front_and_each_once(points):
    order = best_first(points)
    assert sorted(order) == list(range(len(points)))
    number, front_of = 0, fronts(points)
    for i in order:
        assert front_of[i] >= number
        number = front_of[i]


def test_what_is_not_a_number_is_beaten_by_any_number():
    points = [[math.nan, 1.0], [9.0, 1.0], [math.nan, 0.5]]
    assert fronts(points).tolist() == [1, 0, 0]
    assert dominates(points)[1, 0] and not dominates(points)[0, 1]


def test_crowding_is_that_of_the_paper_and_the_ends_are_infinite():
    points = np.array([[0.0, 8.0], [1.0, 4.0], [3.0, 2.0], [8.0, 0.0]])
    middle = [(3 - 0) / 8 + (8 - 2) / 8, (8 - 1) / 8 + (4 - 0) / 8]
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(crowding(points), [math.inf, *middle, math.inf])
    np.testing.assert_allclose(crowding(points[order]), crowding(points)[order])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_points_are_ends(count):
    assert np.isinf(crowding(np.ones((count, 2)))).all()


def test_within_a_front_the_least_crowded_come_first():
    points = [[0.0, 10.0], [4.9, 5.1], [5.0, 5.0], [5.1, 4.9], [10.0, 0.0]]
    assert set(best_first(points)[:2]) == {0, 4}
    assert best_first(points)[-1] == 2


@FAST
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=10, unique=True)
)
def test_the_knee_is_the_point_of_the_front_farthest_above_the_line(points):
    gain, cost = (np.array(column, float) for column in zip(*points))
    chosen = knee(gain, cost)
    front = [i for i, f in enumerate(peeled(np.stack([-gain, cost], axis=1))) if f == 0]
    assert chosen in front
    first, last = min(front, key=lambda i: cost[i]), max(front, key=lambda i: gain[i])

    def above(i: int) -> float:
        """Twice the area between a point and the line from the cheapest to the best."""
        return float(
            (gain[i] - gain[first]) * (cost[last] - cost[first])
            - (cost[i] - cost[first]) * (gain[last] - gain[first])
        )

    assert above(chosen) == pytest.approx(max(above(i) for i in front))


def test_the_knee_does_not_depend_on_units_and_needs_a_point():
    gain, cost = np.array([0.1, 0.8, 0.82, 0.3]), np.array([1.0, 2.0, 9.0, 5.0])
    assert knee(gain, cost) == knee(100 * gain - 3, cost / 7 + 2) == 1
    assert knee([0.5, 0.5], [2.0, 1.0]) == 1  # the cheapest of equals
    with pytest.raises(ValueError, match="no point"):
        knee([], [])


@pytest.mark.filterwarnings("error")
def test_a_point_without_a_gain_is_no_knee_and_infinite_costs_have_a_crowding():
    assert knee([math.nan, 0.8, 0.82], [1, 2, 9]) in (1, 2)
    assert knee([math.nan, math.nan], [2, 1]) == 1
    assert not np.isnan(crowding([[math.inf, 1], [math.inf, 2], [0, 3]])).any()
    assert fronts([]).tolist() == []
