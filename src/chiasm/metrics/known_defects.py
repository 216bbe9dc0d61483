"""Thresholds that known defects choose, instead of a promised false-alarm rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class KnownDefects:
    """A threshold that scores of labelled defective parts chose; alarms are scores above it.

    Attributes:
        threshold: between scores.
        defects: scores of the labelled defective parts, rising.
        miss_rate: that is promised of such defects, on average; None where F1 chose.
        f1: on these parts and the calibration normals, which chose it; None with a miss rate.
        files: hashes of the parts' files, also of those that trained, so that an evaluation on them
            is noticed.
    """

    threshold: float
    defects: tuple[float, ...]
    miss_rate: float | None = None
    f1: float | None = None
    files: tuple[str, ...] = ()

    @property
    def missed(self) -> int:
        """Number of these defective parts that are not above the threshold."""
        return sum(score <= self.threshold for score in self.defects)


def best_f1(normals: ArrayLike, defects: ArrayLike) -> KnownDefects:
    """Return the threshold with the highest F1 on good and defective parts.

    It lies in the middle between two scores; of several, in the widest gap. The figure is that of
    the parts that chose it, and of their shares of good and defective ones.

    Args:
        normals: scores of good parts that did not train, larger is more anomalous.
        defects: scores of defective parts.

    Raises:
        DataError: there are none of one kind, or a score is not finite.

    Example:
        >>> best_f1([1.0, 2.0, 3.0], [2.5, 5.0, 6.0]).threshold
        2.25
    """
    good, bad = _scores(normals, "good"), _scores(defects, "defective")
    values = np.unique(np.concatenate([good, bad]))
    edges = np.concatenate([[values[0] - 1.0], (values[:-1] + values[1:]) / 2])
    gaps = np.concatenate([[0.0], np.diff(values)])
    found = len(bad) - np.searchsorted(bad, edges, side="right")
    alarms = found + len(good) - np.searchsorted(good, edges, side="right")
    f1 = 2 * found / (alarms + len(bad))
    best = np.flatnonzero(f1 >= f1.max() - _ROUNDING)
    chosen = int(best[np.argmax(gaps[best])])
    return KnownDefects(float(edges[chosen]), tuple(bad.tolist()), f1=round(float(f1[chosen]), 4))


def bounded_misses(defects: ArrayLike, miss_rate: float) -> KnownDefects:
    """Return the highest threshold that misses at most a rate of defects like these.

    A new defective part that is exchangeable with these is not above it with probability at most
    ``k / (m + 1)``, ``k`` the largest number for which that is at most the rate, on average over
    draws of the ``m`` defects: split conformal prediction with the classes exchanged.

    Args:
        defects: scores of defective parts.
        miss_rate: in (0, 1).

    Raises:
        ConfigurationError: the rate is not in (0, 1), or so few defects cannot promise it.
        DataError: there are none, or a score is not finite.

    References:
        Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005, section 4.6
        (label-conditional, or Mondrian, conformal prediction).

    Example:
        >>> bounded_misses(range(1, 20), 0.1).missed  # 2 / 20 is the rate of the second lowest
        1
    """
    if not 0 < miss_rate < 1:
        raise ConfigurationError(
            f"A miss rate of {miss_rate} is not between 0 and 1; 0.1, say, means that one defect "
            "in ten is missed."
        )
    bad = _scores(defects, "defective")
    rank = math.floor(miss_rate * (len(bad) + 1) + _ROUNDING)
    if rank == 0:
        needed = math.ceil(1 / miss_rate - _ROUNDING) - 1
        least = math.ceil(1000 / (len(bad) + 1)) / 1000
        raise ConfigurationError(
            f"{len(bad)} known defects cannot promise a miss rate of {miss_rate:g}, which needs "
            f"{needed}. Give more, ask for {least:g} or more, or leave the miss rate out for the "
            "best F1."
        )
    limit = float(np.nextafter(bad[min(rank, len(bad)) - 1], -np.inf))
    return KnownDefects(limit, tuple(bad.tolist()), miss_rate=miss_rate)


def _scores(values: ArrayLike, kind: str) -> NDArray[np.float64]:
    scores = np.sort(np.asarray(values, np.float64).ravel())
    if not scores.size:
        raise DataError(f"There is no score of a {kind} part to choose a threshold by.")
    if not np.isfinite(scores).all():
        raise DataError(f"A score of a {kind} part is not finite; find out where it comes from.")
    return scores
