"""Bootstrap intervals where samples come in groups, such as recordings of one session.

Whole groups are drawn with replacement: samples of one group resemble each other, and drawing
them one by one would pretend to more evidence than there is. Figures that depend on the samples
only through sums (means, macro-F1, balanced accuracy) are summed once per group; a draw is then a
row of counts per group, and all draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.bootstrap import Interval, percentile_interval
from chiasm.metrics.classification import confusion_matrix

# Counts of (draws, groups) are worked off in blocks of about this many numbers.
_BLOCK = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class SummedFigure:
    """A figure that depends on the samples only through sums over them.

    Attributes:
        table: ``(N, S)`` numbers or bools, what is summed.
        read: turns ``(draws, S)`` sums into ``(draws,)`` figures.
    """

    table: NDArray[Any]
    read: Callable[[NDArray[np.float64]], NDArray[np.float64]]


Figure: TypeAlias = ArrayLike | SummedFigure | Callable[[NDArray[np.int64]], float]


class PairedDifference(NamedTuple):
    """The first figure minus the second, on the same samples.

    Attributes:
        difference: on the samples themselves.
        low: lower end of the bootstrap interval.
        high: upper end.
        p_value: in (0, 1], two-sided, of no difference.
    """

    difference: float
    low: float
    high: float
    p_value: float


class GroupDraws(NamedTuple):
    """How often each group was drawn.

    Attributes:
        member: ``(N,)`` number of each sample's group, 0 to G - 1.
        counts: ``(draws, G)`` int32.
    """

    member: NDArray[np.int64]
    counts: NDArray[np.int32]


def draw_groups(
    groups: Sequence[Any] | NDArray[Any],
    *,
    stratify: Sequence[Any] | NDArray[Any] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> GroupDraws:
    """Draw as many groups as there are, with replacement, many times.

    Args:
        groups: ``(N,)`` name or number of each sample's group, at least one sample.
        stratify: ``(N,)`` labels; groups of each label are drawn apart, so that every class
            occurs in every draw. Groups with several labels are drawn among groups with the same
            mixture: where most mixtures are unique, hardly anything varies and intervals are too
            narrow, so stratify only by what is mostly constant within groups.
        draws: how many times, at least 1.
        seed: the same seed gives the same draws.

    Returns:
        Counts per draw and group; all draws hold equally many groups.

    Raises:
        ConfigurationError: ``draws`` is below 1.
        DataError: there is no sample, or not one group and label for each.

    Example:
        >>> draw_groups(["a", "a", "b"], draws=4).counts.sum(axis=1).tolist()
        [2, 2, 2, 2]
    """
    if draws < 1:
        raise ConfigurationError(f"{draws} bootstrap draws give no interval; take 1000, say.")
    named = np.asarray(groups)
    if named.ndim != 1 or named.size == 0:
        raise DataError(f"Groups of shape {named.shape} are not (N,) with at least one sample.")
    member = np.unique(named, return_inverse=True)[1].astype(np.int64)
    count = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, count), dtype=np.int32)
    for inside in _strata(member, count, stratify):
        for draw in range(draws):  # many times faster than a multinomial of many groups
            drawn = rng.integers(0, inside.size, inside.size, dtype=np.int32)
            counts[draw, inside] = np.bincount(drawn, minlength=inside.size)
    return GroupDraws(member, counts)


def group_bootstrap_interval(
    figure: Figure,
    groups: Sequence[Any] | NDArray[Any],
    *,
    stratify: Sequence[Any] | NDArray[Any] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a figure, whole groups drawn.

    Args:
        figure: ``(N,)`` values, whose mean is the figure; a ``SummedFigure`` such as
            ``macro_f1_figure`` makes; or a function that takes ``(M,)`` sample numbers, repeated as
            often as drawn, and returns the figure (one call a draw).
        groups, stratify, draws, seed: as in ``draw_groups``.
        level: share of the draws inside the interval, in (0, 1).

    Returns:
        ``(low, high)``; draws whose figure is nan are left out, and both are nan where all are.
        Too narrow with fewer than some twenty groups.

    Raises:
        ConfigurationError: ``level`` or ``draws`` is out of range.
        DataError: lengths differ, there is no sample, or a value is NaN.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Field and Welsh,
        Bootstrapping clustered data, JRSS B 2007.

    Example:
        >>> group_bootstrap_interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
        (0.0, 1.0)
    """
    drawn = draw_groups(groups, stratify=stratify, draws=draws, seed=seed)
    return percentile_interval(_figures(figure, drawn), level)


def paired_group_bootstrap(
    first: Figure,
    second: Figure,
    groups: Sequence[Any] | NDArray[Any],
    *,
    stratify: Sequence[Any] | NDArray[Any] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two methods on the same samples, both figures taken from the same draws.

    The p-value inverts the percentile interval: twice the smaller share of draws in which the
    difference is not above, or not below, zero; one is added to draws and count, so that it is
    never 0 and at best ``2 / (draws + 1)``.

    Args:
        first, second: as ``figure`` in ``group_bootstrap_interval``.
        groups, stratify, level, draws, seed: as in ``group_bootstrap_interval``.

    Returns:
        The difference, its interval and p-value; nan where no draw has both figures.

    Raises:
        ConfigurationError, DataError: as in ``group_bootstrap_interval``.

    References:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 4.2 and 5.4;
        Berg-Kirkpatrick et al., An Empirical Investigation of Statistical Significance in NLP,
        EMNLP 2012.

    Example:
        >>> paired_group_bootstrap([1.0] * 4, [0.0] * 4, range(4), draws=99)
        PairedDifference(difference=1.0, low=1.0, high=1.0, p_value=0.02)
    """
    drawn = draw_groups(groups, stratify=stratify, draws=draws, seed=seed)
    whole = GroupDraws(drawn.member, np.ones((1, drawn.counts.shape[1]), dtype=np.int32))
    difference = float((_figures(first, whole) - _figures(second, whole))[0])
    gains = _figures(first, drawn) - _figures(second, drawn)
    low, high = percentile_interval(gains, level)
    gains = gains[~np.isnan(gains)]
    if gains.size == 0:
        return PairedDifference(difference, low, high, float("nan"))
    rarer = int(min(np.sum(gains <= 0.0), np.sum(gains >= 0.0)))
    return PairedDifference(difference, low, high, min(1.0, 2 * (rarer + 1) / (gains.size + 1)))


def macro_f1_figure(truth: ArrayLike, predicted: ArrayLike, classes: int) -> SummedFigure:
    """Return ``macro_f1`` as a figure of sums, for thousands of draws at once.

    A draw that misses a class is averaged over the others; stratify by the truth to avoid it.

    Args:
        truth, predicted: ``(N,)`` class numbers in [0, classes).
        classes: K.

    Raises:
        DataError: lengths differ, there is no sample, or a number is out of range.

    Example:
        >>> figure = macro_f1_figure([0, 0, 1, 1], [0, 0, 1, 1], 2)
        >>> group_bootstrap_interval(figure, range(4), stratify=[0, 0, 1, 1])
        (1.0, 1.0)
    """

    def read(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        right, own, called = np.split(sums, 3, axis=1)
        return _mean_of_present(2 * right / np.maximum(own + called, 1), own)

    return SummedFigure(_margins(truth, predicted, classes), read)


def balanced_accuracy_figure(truth: ArrayLike, predicted: ArrayLike, classes: int) -> SummedFigure:
    """Return ``balanced_accuracy`` as a figure of sums, for thousands of draws at once.

    Arguments and errors are those of ``macro_f1_figure``.
    """

    def read(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        right, own, _ = np.split(sums, 3, axis=1)
        return _mean_of_present(right / np.maximum(own, 1), own)

    return SummedFigure(_margins(truth, predicted, classes), read)


def _margins(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.bool_]:
    """Return ``(N, 3 K)``: what a sample adds to the confusion's diagonal, rows and columns."""
    confusion_matrix(truth, predicted, classes)  # refuses what are no class numbers
    every = np.arange(classes)
    row = np.asarray(truth)[:, None] == every
    column = np.asarray(predicted)[:, None] == every
    return np.concatenate([row & column, row, column], axis=1)


def _mean_of_present(values: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes that a draw holds, at least one; ``(draws,)``."""
    present = own > 0
    return np.asarray(np.sum(values, axis=1, where=present) / present.sum(axis=1))


def _figures(figure: Figure, drawn: GroupDraws) -> NDArray[np.float64]:
    """Return ``(draws,)`` figures."""
    if callable(figure):
        every = np.arange(drawn.member.size)
        return np.array([figure(np.repeat(every, row[drawn.member])) for row in drawn.counts])
    if not isinstance(figure, SummedFigure):
        values = np.asarray(figure, dtype=np.float64)
        if values.ndim != 1 or np.isnan(values).any():
            raise DataError(
                f"Values of shape {values.shape} must be (N,), one per sample, and none NaN."
            )
        table = np.stack([values, np.ones(values.size)], axis=1)
        figure = SummedFigure(table, lambda sums: sums[:, 0] / sums[:, 1])
    return figure.read(_sums(figure.table, drawn))


def _sums(table: NDArray[Any], drawn: GroupDraws) -> NDArray[np.float64]:
    """Return ``(draws, S)``: the table summed per group once, and groups as often as drawn."""
    member, counts = drawn
    if table.ndim != 2 or len(table) != member.size:
        raise DataError(
            f"A figure of {len(table)} samples does not fit {member.size} groups; give one group "
            "per sample."
        )
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(counts.shape[1]))
    by_group = np.add.reduceat(table[order], starts, axis=0, dtype=np.float64)
    block = max(1, _BLOCK // counts.shape[1])
    blocks = (counts[at : at + block] for at in range(0, len(counts), block))
    return np.concatenate([some.astype(np.float64) @ by_group for some in blocks])


def _strata(
    member: NDArray[np.int64], count: int, stratify: Sequence[Any] | NDArray[Any] | None
) -> list[NDArray[np.int64]]:
    """Return the groups of each mixture of labels."""
    if stratify is None:
        return [np.arange(count)]
    labels = np.asarray(stratify)
    if labels.shape != member.shape:
        raise DataError(f"There are {member.size} samples and labels of shape {labels.shape}.")
    label = np.unique(labels, return_inverse=True)[1]
    present = np.zeros((count, int(label.max()) + 1), dtype=np.bool_)
    present[member, label] = True
    mixture = np.unique(present, axis=0, return_inverse=True)[1].ravel()
    return [np.flatnonzero(mixture == one) for one in range(int(mixture.max()) + 1)]


def holm(p_values: ArrayLike) -> list[float]:
    """Adjust p-values so that the chance of even one false finding stays below the level.

    Args:
        p_values: ``(M,)`` in [0, 1].

    Returns:
        Adjusted ones in the same order; none is smaller than before.

    Raises:
        DataError: one is NaN or outside [0, 1].

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
        Statistics, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise DataError(f"P-values lie in [0, 1], one for each comparison, not {given.tolist()}.")
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(given.size, 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]
