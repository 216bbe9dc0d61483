"""How far a figure could be off because these parts, and not others, were tested.

Images (or whole groups of them: sessions, batches) are drawn anew with replacement, never pixels:
the pixels of one image are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.pixel_histograms import binned_auroc

Interval = tuple[float, float]
# Weights of (draws, images) are worked off in blocks of about this many numbers.
_BLOCK = 1 << 22


def bootstrap_weights(
    images: int,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    stratify: Sequence[Any] | NDArray[Any] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Draw with replacement, and count how often each image came.

    Args:
        images: how many there are, at least 1.
        groups: ``(images,)``; images of one group are drawn together, so that images that depend
            on each other do not make the interval too narrow. Each image is its own group if None.
        stratify: ``(images,)`` labels; each label's groups are drawn apart, as many as there are,
            so that every class occurs in every draw. A group with several labels is its own
            stratum with the groups of the same mixture.
        draws: how many times to draw, at least 1.
        seed: the same seed gives the same draws.

    Returns:
        ``(draws, images)`` counts.

    Raises:
        ConfigurationError: ``draws`` is below 1.
        DataError: there is no image, or groups or labels are not one per image.

    Example:
        >>> weights = bootstrap_weights(4, stratify=[0, 0, 1, 1], draws=3)
        >>> weights[:, :2].sum(axis=1).tolist(), weights[:, 2:].sum(axis=1).tolist()
        ([2, 2, 2], [2, 2, 2])
    """
    if draws < 1:
        raise ConfigurationError(f"{draws} bootstrap draws give no interval; take 1000, say.")
    if images < 1:
        raise DataError("There is no image to draw from, so there is no bootstrap interval.")
    member = _codes(np.arange(images) if groups is None else groups, images, "groups")
    stratum = _codes(np.zeros(images) if stratify is None else stratify, images, "labels")
    count = int(member.max()) + 1
    present = np.zeros((count, int(stratum.max()) + 1), dtype=np.bool_)
    present[member, stratum] = True
    _, mixture = np.unique(present, axis=0, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = np.empty((draws, count), dtype=np.int64)
    for one in range(int(mixture.max()) + 1):
        inside = np.flatnonzero(mixture.ravel() == one)
        equal = np.full(inside.size, 1.0 / inside.size)
        drawn[:, inside] = rng.multinomial(inside.size, equal, size=draws)
    return drawn[:, member]


def bootstrap_interval(
    fn: Callable[..., float],
    *arrays: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    stratify: Sequence[Any] | NDArray[Any] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a figure.

    Args:
        fn: takes the resampled arrays, returns the figure.
        arrays: each of the same first length, one entry per image.
        groups: as in ``bootstrap_weights``.
        stratify: as in ``bootstrap_weights``; give the labels where ``fn`` needs both classes.
        level: share of the draws inside the interval, in (0, 1).
        draws: how many times to draw.
        seed: the same seed gives the same interval.

    Returns:
        ``(low, high)``; draws whose figure is nan are left out, and both are nan where all are.

    Raises:
        ConfigurationError: ``level`` or ``draws`` is out of range.
        DataError: the arrays, groups or labels differ in length, or are empty.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Example:
        >>> bootstrap_interval(np.mean, [2.0, 2.0, 2.0])
        (2.0, 2.0)
    """
    columns = [np.asarray(array) for array in arrays]
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise DataError(
            f"Arrays of lengths {sorted(lengths)} cannot be resampled together; give one entry "
            "per image in each."
        )
    [images] = lengths
    weights = bootstrap_weights(images, groups=groups, stratify=stratify, draws=draws, seed=seed)
    every = np.arange(images)
    figures = np.empty(draws)
    for draw, counts in enumerate(weights):
        chosen = np.repeat(every, counts)
        figures[draw] = fn(*(column[chosen] for column in columns))
    return percentile_interval(figures, level)


def auroc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of the image-level AUROC, all draws from one sort.

    Drawn within each class, so that both are always there.

    Args:
        scores: ``(N,)``, larger is more anomalous, no NaN.
        labels: ``(N,)`` 0/1 or bool.
        groups, level, draws, seed: as in ``bootstrap_interval``.

    Returns:
        ``(low, high)``; nan where only one class is present.

    Raises:
        ConfigurationError: ``level`` or ``draws`` is out of range.
        DataError: lengths differ, there is no image, or a score is NaN.

    Example:
        >>> auroc_interval([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
        (1.0, 1.0)
    """
    values, truth = np.asarray(scores), np.asarray(labels).astype(np.bool_)
    if values.shape != truth.shape or values.ndim != 1 or np.isnan(values).any():
        raise DataError(
            f"Scores of shape {values.shape} and labels of shape {truth.shape} must both be (N,), "
            "and no score NaN."
        )
    weights = bootstrap_weights(values.size, groups=groups, stratify=truth, draws=draws, seed=seed)
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    positive = truth[order]
    figures = np.empty(draws)
    block = max(1, _BLOCK // values.size)
    for first in range(0, draws, block):
        counts = weights[first : first + block, order].astype(np.float64)
        figures[first : first + block] = binned_auroc(
            np.add.reduceat(counts * positive, starts, axis=1),
            np.add.reduceat(counts * ~positive, starts, axis=1),
        )
    return percentile_interval(figures, level)


def percentile_interval(figures: ArrayLike, level: float = 0.95) -> Interval:
    """Return the central interval that holds a share of the figures, nan left out.

    Raises:
        ConfigurationError: ``level`` is not in (0, 1).

    Example:
        >>> percentile_interval([0.0, 1.0, 2.0, 3.0, 4.0], level=0.5)
        (1.0, 3.0)
    """
    if not 0.0 < level < 1.0:
        raise ConfigurationError(f"An interval of level {level} is not in (0, 1); take 0.95, say.")
    values = np.asarray(figures, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _codes(values: Sequence[Any] | NDArray[Any], images: int, what: str) -> NDArray[np.int64]:
    """Number the distinct values from 0."""
    array = np.asarray(values)
    if array.shape != (images,):
        raise DataError(f"There are {images} images and {what} of shape {array.shape}.")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)
