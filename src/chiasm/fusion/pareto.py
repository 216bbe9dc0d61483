"""Trade-offs between figures that are all to be small: fronts, crowding and the knee.

References:
    Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def dominates(points: ArrayLike) -> NDArray[np.bool_]:
    """Return ``(N, N)``: whether point i is nowhere worse than point j, and somewhere better.

    Args:
        points: ``(N, M)``, smaller is better. NaN is worse than any number.
    """
    values = np.nan_to_num(np.asarray(points, np.float64), nan=np.inf, posinf=np.inf)
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    return np.asarray(no_worse & better)


def fronts(points: ArrayLike) -> NDArray[np.int64]:
    """Return the front ``(N,)`` of each point: 0 where no other point dominates it.

    Front 1 is that of the points which only points of front 0 dominate, and so on.

    Example:
        >>> fronts([[1, 3], [3, 1], [2, 4]]).tolist()
        [0, 0, 1]
    """
    if not len(np.asarray(points)):
        return np.zeros(0, dtype=np.int64)
    above = dominates(points)
    numbers = np.full(len(above), -1, dtype=np.int64)
    front = 0
    while (numbers < 0).any():
        open_points = numbers < 0
        free = open_points & ~above[open_points].any(axis=0)
        numbers[free] = front
        front += 1
    return numbers


def crowding(points: ArrayLike) -> NDArray[np.float64]:
    """Return how far ``(N,)`` each point of one front is from its neighbours; ends are infinite.

    Args:
        points: ``(N, M)`` of one front.
    """
    worst = np.finfo(np.float64).max / 4  # of which a difference is finite
    values = np.nan_to_num(np.asarray(points, np.float64), nan=worst, posinf=worst, neginf=-worst)
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        sorted_column = column[order]
        spread = sorted_column[-1] - sorted_column[0]
        gaps = np.full(len(values), np.inf)
        if spread > 0:
            gaps[1:-1] = (sorted_column[2:] - sorted_column[:-2]) / spread
        elif len(values) > 2:
            gaps[1:-1] = 0.0
        distance[order] += gaps
    return distance


def best_first(points: ArrayLike) -> list[int]:
    """Order points by their front, and within a front the least crowded first.

    Example:
        >>> best_first([[2, 4], [1, 3], [3, 1]])
        [1, 2, 0]
    """
    values = np.asarray(points, np.float64)
    number = fronts(values)
    spread = np.zeros(len(values))
    for front in range(int(number.max(initial=-1)) + 1):
        members = np.flatnonzero(number == front)
        spread[members] = crowding(values[members])
    return [int(i) for i in np.lexsort((-spread, number))]


def knee(gain: ArrayLike, cost: ArrayLike) -> int:
    """Return the number of the point after which more cost gains little.

    Of the points that no other dominates it is the one farthest above the straight line from the
    cheapest to the best, with both figures scaled to their range. The cheapest of equals.

    Args:
        gain: ``(N,)``, larger is better.
        cost: ``(N,)``, smaller is better.

    A point without a gain (NaN) is never the knee, unless no point has one.

    Raises:
        ValueError: there is no point.

    References:
        Das, On characterizing the "knee" of the Pareto curve, Structural Optimization 1999.

    Example:
        >>> knee([0.1, 0.8, 0.82], [1.0, 2.0, 9.0])
        1
    """
    gains, costs = np.asarray(gain, np.float64), np.asarray(cost, np.float64)
    if not len(gains):
        raise ValueError("There is no point to choose from.")
    known = np.flatnonzero(np.isfinite(gains))
    if not len(known):
        return int(np.argmin(costs))
    front = known[fronts(np.stack([-gains[known], costs[known]], axis=1)) == 0]
    front = front[np.argsort(costs[front], kind="stable")]
    span_gain = gains[front].max() - gains[front].min()
    span_cost = costs[front].max() - costs[front].min()
    if span_gain <= 0 or span_cost <= 0:
        return int(front[0])
    height = (gains[front] - gains[front].min()) / span_gain
    height -= (costs[front] - costs[front].min()) / span_cost
    return int(front[np.argmax(height)])
