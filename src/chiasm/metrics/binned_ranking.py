"""Ranking figures from histograms over bins in order of score; what shares a bin is tied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def binned_auroc(
    positives: NDArray[np.float64], negatives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve, ties within a bin counting half.

    Args:
        positives: ``(..., B)`` weight of defectives per bin, by rising score.
        negatives: ``(..., B)`` weight of good ones per bin.

    Returns:
        ``(...)`` in [0, 1]; nan where a class has no weight.

    Example:
        >>> float(binned_auroc(np.array([1.0, 1.0]), np.array([2.0, 0.0])))
        0.75
    """
    below = np.cumsum(negatives, axis=-1) - 0.5 * negatives
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    return _ratio(np.sum(positives * below, axis=-1), pairs)


def binned_average_precision(
    positives: NDArray[np.float64], negatives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the average precision with the bins' lower edges as thresholds.

    Args:
        positives: ``(..., B)`` weight of defectives per bin, by rising score.
        negatives: ``(..., B)`` weight of good ones per bin.

    Returns:
        ``(...)`` in [0, 1]; nan where there is no defective.

    Example:
        >>> float(binned_average_precision(np.array([0.0, 1.0]), np.array([2.0, 0.0])))
        1.0
    """
    hits = np.cumsum(positives[..., ::-1], axis=-1)
    alarms = np.cumsum(negatives[..., ::-1], axis=-1)
    precision = np.divide(hits, hits + alarms, out=np.zeros_like(hits), where=hits > 0)
    return _ratio(np.sum(precision * positives[..., ::-1], axis=-1), hits[..., -1])


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
