"""Bootstrap intervals and tests: the spread of a figure over other samples of the same kind.

Whole images or whole groups of samples (sessions, batches) are drawn with replacement, never
pixels: pixels of an image and recordings of a session are correlated, and drawing them one by one
would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics import metric
from chiasm.metrics.classification import confusion_matrix
from chiasm.metrics.pixel_histograms import binned_auroc

Interval: TypeAlias = tuple[float, float]
Names: TypeAlias = Sequence[Any] | NDArray[Any]
# Weights of (draws, samples) are processed in blocks of about this many numbers.
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class SummedFigure:
    """A figure that depends on the samples only through sums over them.

    Attributes:
        table: ``(N, S)`` numbers or bools, the summands.
        read: turns ``(draws, S)`` sums into ``(draws,)`` figures.
    """

    table: NDArray[Any]
    read: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def draws(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Return the figure of every draw, ``(draws,)``; weights are ``(draws, N)``."""
        return self.read(np.asarray(weights, np.float64) @ self.table)


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
    """Counts of drawn groups.

    Attributes:
        member: ``(N,)`` number of each sample's group, 0 to G - 1.
        counts: ``(draws, G)`` int32.
    """

    member: NDArray[np.int64]
    counts: NDArray[np.int32]


def bootstrap_weights(
    samples: int,
    *,
    groups: Names | None = None,
    stratify: Names | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Draw groups with replacement, and count how often each sample occurs.

    Args:
        samples: number of samples, at least 1.
        groups: ``(samples,)``; the samples of one group are drawn together. None makes each sample
            its own group.
        stratify: ``(samples,)`` labels; groups of each label are drawn separately, so that
            every draw holds each label as often as the data. Groups with several labels are drawn
            among the groups with the same mixture: where most mixtures are unique, hardly anything
            varies and intervals are too narrow.
        draws: number of draws, at least 1.
        seed: the same seed gives the same draws.

    Returns:
        ``(draws, samples)`` counts.

    Raises:
        ConfigurationError: ``draws`` is below 1.
        DataError: there is no sample, or groups or labels are not one per sample.

    Example:
        >>> weights = bootstrap_weights(4, stratify=[0, 0, 1, 1], draws=3)
        >>> weights[:, :2].sum(axis=1).tolist(), weights[:, 2:].sum(axis=1).tolist()
        ([2, 2, 2], [2, 2, 2])
    """
    names = np.arange(samples) if groups is None else groups
    member, strata = _groups(names, stratify, samples=samples, draws=draws)
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, int(member.max()) + 1), dtype=np.int64)
    for stratum in strata:
        equal = np.full(stratum.size, 1.0 / stratum.size)
        counts[:, stratum] = rng.multinomial(stratum.size, equal, size=draws)
    return counts[:, member]


def draw_groups(
    groups: Names, *, stratify: Names | None = None, draws: int = 1000, seed: int = 0
) -> GroupDraws:
    """Draw as ``bootstrap_weights``, and count how often each group occurs.

    Many times faster for thousands of groups. The random numbers differ from those of
    ``bootstrap_weights``; neither can replace the other without changing published intervals.

    Example:
        >>> draw_groups(["a", "a", "b"], draws=4).counts.sum(axis=1).tolist()
        [2, 2, 2, 2]
    """
    member, strata = _groups(groups, stratify, samples=len(groups), draws=draws)
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, int(member.max()) + 1), dtype=np.int32)
    for stratum in strata:
        for draw in range(draws):
            drawn = rng.integers(0, stratum.size, stratum.size, dtype=np.int32)
            counts[draw, stratum] = np.bincount(drawn, minlength=stratum.size)
    return GroupDraws(member, counts)


@metric()
def bootstrap_interval(
    fn: Callable[..., float],
    *arrays: ArrayLike,
    groups: Names | None = None,
    stratify: Names | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a figure.

    Args:
        fn: takes the resampled arrays, returns the figure.
        arrays: each of the same first length, one entry per sample.
        groups: as in ``bootstrap_weights``.
        stratify: as in ``bootstrap_weights``; give the labels where ``fn`` needs both classes.
        level: share of the draws inside the interval, in (0, 1).
        draws: number of draws.
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
            "per sample in each."
        )
    [samples] = lengths
    weights = bootstrap_weights(samples, groups=groups, stratify=stratify, draws=draws, seed=seed)
    rows = np.arange(samples)
    figures = np.empty(draws)
    for draw, counts in enumerate(weights):
        drawn = np.repeat(rows, counts)
        figures[draw] = fn(*(column[drawn] for column in columns))
    return percentile_interval(figures, level)


def auroc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Names | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of the image-level AUROC, all draws from one sort.

    Images are drawn within each class, so that every draw holds both.

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


@metric()
def paired_group_bootstrap(
    first: Figure,
    second: Figure,
    groups: Names,
    *,
    stratify: Names | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two methods on the same samples, both figures taken from the same draws.

    The p-value inverts the percentile interval: twice the smaller share of draws in which the
    difference is not above, or not below, zero; one is added to draws and count, so that it is
    never 0 and at best ``2 / (draws + 1)``.

    Args:
        first, second: ``(N,)`` values, whose mean is the figure; a ``SummedFigure``; or a function
            that takes ``(M,)`` sample numbers, repeated as often as drawn, and returns the figure
            (one call a draw).
        groups: ``(N,)`` name or number of each sample's group.
        stratify, draws, seed: as in ``bootstrap_weights``.
        level: share of the draws inside the interval, in (0, 1).

    Returns:
        The difference, its percentile interval and p-value; draws whose figure is nan are left
        out, and the last three are nan where all are. Too narrow with fewer than twenty groups.

    Raises:
        ConfigurationError: ``level`` or ``draws`` is out of range.
        DataError: lengths differ, there is no sample, or a value is NaN.

    References:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 4.2 and 5.4;
        Field and Welsh, Bootstrapping clustered data, JRSS B 2007;
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
        >>> macro_f1_figure([0, 0, 1, 1], [0, 1, 1, 1], 2).draws([[1, 0, 1, 1]]).tolist()
        [1.0]
    """
    confusion_matrix(truth, predicted, classes)  # refuses numbers that are no classes
    numbers = np.arange(classes)
    rows = np.asarray(truth)[:, None] == numbers
    columns = np.asarray(predicted)[:, None] == numbers

    def read(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        correct, support, called = np.split(sums, 3, axis=1)
        f1 = 2 * correct / np.maximum(support + called, 1)
        present = support > 0
        return np.asarray(np.sum(f1, axis=1, where=present) / present.sum(axis=1))

    # Diagonal, rows and columns of the confusion matrix: what one sample adds to each.
    return SummedFigure(np.concatenate([rows & columns, rows, columns], axis=1), read)


def holm(p_values: ArrayLike) -> list[float]:
    """Adjust p-values so that the chance of even one false positive stays below the level.

    Args:
        p_values: ``(M,)`` in [0, 1].

    Returns:
        Adjusted p-values in the same order; none is smaller than before.

    Raises:
        DataError: a p-value is NaN or outside [0, 1].

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
        Statistics, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"P-values must be (M,) numbers in [0, 1], not {values.tolist()}.")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(values.size, 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _figures(figure: Figure, drawn: GroupDraws) -> NDArray[np.float64]:
    """Return ``(draws,)`` figures."""
    if callable(figure):
        samples = np.arange(drawn.member.size)
        return np.array([figure(np.repeat(samples, row[drawn.member])) for row in drawn.counts])
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
    """Return ``(draws, S)`` sums: the table summed per group, then weighted by the counts."""
    member, counts = drawn
    if table.ndim != 2 or len(table) != member.size:
        raise DataError(
            f"A figure of {len(table)} samples does not fit {member.size} groups; give one group "
            "per sample."
        )
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(counts.shape[1]))
    by_group = np.add.reduceat(table[order], starts, axis=0, dtype=np.float64)
    block = max(1, _BLOCK // 2 // counts.shape[1])
    starts_of_blocks = range(0, len(counts), block)
    blocks = (counts[start : start + block] for start in starts_of_blocks)
    return np.concatenate([rows.astype(np.float64) @ by_group for rows in blocks])


def _groups(
    groups: Names, stratify: Names | None, *, samples: int, draws: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return each sample's group number, and the group numbers of each stratum."""
    if draws < 1:
        raise ConfigurationError(f"{draws} bootstrap draws give no interval; take 1000, say.")
    if samples < 1:
        raise DataError("A bootstrap interval needs at least one sample, and there is none.")
    member = _numbered(groups, samples, "groups")
    count = int(member.max()) + 1
    if stratify is None:
        return member, [np.arange(count)]
    label = _numbered(stratify, samples, "labels")
    present = np.zeros((count, int(label.max()) + 1), dtype=np.bool_)
    present[member, label] = True
    mixture = np.unique(present, axis=0, return_inverse=True)[1].ravel()
    return member, [np.flatnonzero(mixture == m) for m in range(int(mixture.max()) + 1)]


def _numbered(values: Names, samples: int, noun: str) -> NDArray[np.int64]:
    """Number the distinct values from 0."""
    array = np.asarray(values)
    if array.shape != (samples,):
        raise DataError(f"There are {samples} samples and {noun} of shape {array.shape}.")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)
