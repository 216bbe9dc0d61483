"""How often chance alone separates few samples as well as some numbers do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_EXACT = 5_000  # divisions of the samples that are all tried; beyond it, some are drawn
DRAWN = 1_999
_PORTION = 500  # divisions at a time
_ROUNDING = 1e-9


def chance_of_separation(
    values: ArrayLike, labels: ArrayLike, *, seed: int = 0
) -> NDArray[np.float64]:
    """Return the chance that labels at random let the best of several numbers separate as well.

    For each number: the share of all divisions of the samples into two classes of the same sizes
    for which the strongest AUROC of *any* of the numbers, in either direction, is at least that of
    the number. So it holds for the strongest of many, which chance favours.

    Args:
        values: ``(K, N)``, finite: K numbers of N samples.
        labels: ``(N,)``, 0 or 1.
        seed: of the divisions, where there are more than ``MOST_EXACT``.

    Returns:
        ``(K,)`` in (0, 1]; 1 where only one class is present.

    References:
        Westfall and Young, Resampling-Based Multiple Testing, 1993, section 2.3 (single step maxT).

    Example:
        >>> chance_of_separation([[1, 2, 3, 4]], [0, 0, 1, 1]).round(3).tolist()
        [0.333]
    """
    numbers = np.atleast_2d(np.asarray(values, np.float64))
    positive = np.asarray(labels).astype(bool)
    count, chosen = positive.size, int(positive.sum())
    if chosen in (0, count) or not numbers.size:
        return np.ones(len(numbers))
    ranks = np.stack([_ranks(row) for row in numbers])  # (K, N)
    centre = chosen * (count + 1) / 2  # of the sum of ranks of one class
    observed = np.abs(ranks[:, positive].sum(axis=1) - centre)  # (K,)
    least = np.sort(observed - _ROUNDING * count)
    reached = np.zeros(len(least), np.int64)  # divisions whose strongest number reaches it
    divisions = 0
    for members in _divisions(count, chosen, seed):  # (P, chosen)
        sums = ranks[:, members].sum(axis=2)  # (K, P)
        strongest = np.abs(sums - centre).max(axis=0)
        reached += len(strongest) - np.searchsorted(np.sort(strongest), least, side="left")
        divisions += len(strongest)
    exact = comb(count, chosen) <= MOST_EXACT
    shares = reached / divisions if exact else (reached + 1) / (divisions + 1)
    return shares[np.searchsorted(least, observed - _ROUNDING * count)]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks from 1, with the mean rank for ties."""
    _, tie, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[tie])


def _divisions(count: int, chosen: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield members of one class ``(P, chosen)``: of all divisions, or of some at random."""
    if comb(count, chosen) <= MOST_EXACT:
        every = combinations(range(count), chosen)
        while portion := list(islice(every, _PORTION)):
            yield np.array(portion)
        return
    rng = np.random.default_rng(seed)
    at_once = max(1, min(_PORTION, 2_000_000 // count))
    for start in range(0, DRAWN, at_once):
        draws = rng.random((min(at_once, DRAWN - start), count))
        yield np.argpartition(draws, chosen - 1, axis=1)[:, :chosen]
