"""How well scores rank defective above good parts: exact, with ties, by one sort of the scores.

Scores are larger where something is more anomalous; labels are 1 (or True) for defective. Only
the thresholds at distinct scores of defectives matter to all three figures, so a few defective
pixels among millions of good ones cost one sort and a few binary searches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import DataError
from chiasm.metrics import metric


@metric()
def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve.

    The probability that a random defective scores above a random good one, ties counting half.

    Args:
        scores: any shape, finite or infinite, no NaN.
        labels: same shape, 0/1 or bool.

    Returns:
        A figure in [0, 1]; nan where only one class is present.

    Raises:
        DataError: shapes differ, a score is NaN, or a label is neither 0 nor 1.

    Example:
        >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    positives, negatives = _by_class(scores, labels)
    if positives.size == 0 or negatives.size == 0:
        return float("nan")
    # Search the smaller class in the larger one; the statistic is symmetric.
    flip = positives.size > negatives.size
    few, many = (negatives, positives) if flip else (positives, negatives)
    few = np.sort(few)
    many = np.sort(many)
    below = np.searchsorted(many, few, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(many, few, side="right").sum(dtype=np.int64)
    area = (int(below) + int(not_above)) / (2 * few.size * many.size)
    return 1.0 - area if flip else area


def nan_loses(value: float) -> float:
    """Return a figure of which larger is better as a key for ``max``: NaN is the worst of all.

    Comparisons with NaN are false, so that ``max`` would return the first figure.

    Example:
        >>> max([float("nan"), 0.9], key=nan_loses)
        0.9
    """
    return -math.inf if math.isnan(value) else value


@metric()
def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the precision averaged over distinct thresholds, weighted by the recall gained.

    No interpolation, as in scikit-learn's ``average_precision_score``.

    Args:
        scores: any shape, no NaN.
        labels: same shape, 0/1 or bool.

    Returns:
        A figure in [0, 1]; nan where there is no defective.

    Raises:
        DataError: as in ``auroc``.

    Example:
        >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 4)
        0.8333
    """
    _, hits, alarms = threshold_counts(scores, labels)
    if hits.size == 0:
        return float("nan")
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * (hits / (hits + alarms))) / hits[-1])


@metric()
def f1_max(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Return the best F1 over all thresholds, and the threshold that gives it.

    Args:
        scores: any shape, no NaN.
        labels: same shape, 0/1 or bool.

    Returns:
        ``(f1, threshold)``: what scores **at or above** the threshold is called defective; the
        highest such threshold where several tie. ``(nan, nan)`` where there is no defective.

    Raises:
        DataError: as in ``auroc``.

    Example:
        >>> f1_max([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        (0.8, 0.35)
    """
    thresholds, hits, alarms = threshold_counts(scores, labels)
    if hits.size == 0:
        return float("nan"), float("nan")
    # F1 = 2 TP / (2 TP + FP + FN), and TP + FN is the number of defectives.
    f1 = 2 * hits / (hits + alarms + hits[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def threshold_counts(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Count hits and false alarms at each distinct score of a defective, from the highest down.

    Args:
        scores: any shape, no NaN.
        labels: same shape, 0/1 or bool.

    Returns:
        ``(thresholds, hits, alarms)``, each ``(K,)``: how many defectives and how many good ones
        score at or above the threshold. Empty where there is no defective.

    Raises:
        DataError: as in ``auroc``.
    """
    positives, negatives = _by_class(scores, labels)
    thresholds, counts = np.unique(positives, return_counts=True)
    negatives = np.sort(negatives)
    alarms = negatives.size - np.searchsorted(negatives, thresholds, side="left")
    return thresholds[::-1], np.cumsum(counts[::-1]), alarms[::-1].astype(np.int64)


def flatten_pixels(
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    foregrounds: Sequence[ArrayLike] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Put the pixels of many images into one vector of scores and one of labels.

    Args:
        maps: ``(H, W)`` scores per image; sizes may differ between images.
        masks: ``(H, W)`` per image, non-zero on defective pixels.
        foregrounds: ``(H, W)`` per image, non-zero on the object. Where given, good pixels outside
            the object are left out; defective pixels always stay.

    Returns:
        ``(scores, labels)``, each ``(pixels,)``.

    Raises:
        DataError: the sequences or the shapes within an image differ.

    Example:
        >>> scores, labels = flatten_pixels([[[0.1, 0.9]]], [[[0, 1]]])
        >>> auroc(scores, labels)
        1.0
    """
    scores: list[NDArray[Any]] = []
    labels: list[NDArray[np.bool_]] = []
    for scored, mask, foreground in checked_images(maps, masks, foregrounds):
        selected = slice(None) if foreground is None else (foreground | mask).ravel()
        scores.append(scored.ravel()[selected])
        labels.append(mask.ravel()[selected])
    if not scores:
        return np.empty(0, np.float32), np.empty(0, np.bool_)
    return np.concatenate(scores), np.concatenate(labels)


def checked_images(
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    foregrounds: Sequence[ArrayLike] | None,
) -> list[tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_] | None]]:
    """Return map, boolean mask and boolean foreground (or None) per image, shapes checked.

    Raises:
        DataError: the sequences or the shapes within an image differ.
    """
    if len(maps) != len(masks) or (foregrounds is not None and len(foregrounds) != len(maps)):
        raise DataError(
            f"There are {len(maps)} anomaly maps, {len(masks)} masks and "
            f"{'no' if foregrounds is None else len(foregrounds)} foregrounds; "
            "give one of each per image."
        )
    images = []
    for index, (scored, mask) in enumerate(zip(maps, masks)):
        scores = np.asarray(scored)
        truth = np.asarray(mask) != 0
        foreground = None if foregrounds is None else np.asarray(foregrounds[index]) != 0
        shapes = {
            scores.shape,
            truth.shape,
            scores.shape if foreground is None else foreground.shape,
        }
        if scores.ndim != 2 or len(shapes) > 1:
            raise DataError(
                f"Image {index} has a map of shape {scores.shape} and a mask of shape "
                f"{truth.shape}"
                + ("" if foreground is None else f" and a foreground of shape {foreground.shape}")
                + "; all must be (H, W) and equal. Resize masks by nearest neighbour."
            )
        images.append((scores, truth, foreground))
    return images


def _by_class(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Split the scores into those of defectives and those of good ones."""
    values = np.asarray(scores)
    truth = np.asarray(labels)
    if values.shape != truth.shape:
        raise DataError(
            f"The scores have shape {values.shape} and the labels {truth.shape}; "
            "give one label per score."
        )
    if truth.dtype != np.bool_:
        defective = truth == 1
        if not np.array_equal(defective, truth != 0):
            raise DataError(
                "A label is neither 0 (good) nor 1 (defective); leave out samples whose label "
                "is unknown."
            )
        truth = defective
    if np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
        raise DataError(
            f"{int(np.isnan(values).sum())} of {values.size} scores are NaN, and NaN cannot be "
            "ranked; leave these samples out, or check the model that produced them."
        )
    return values[truth], values[~truth]
