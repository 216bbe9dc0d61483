"""The points of the curves whose areas ``metrics.json`` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.metrics.overlap_curve import region_weights
from chiasm.metrics.ranking import checked_images, flatten_pixels, threshold_counts

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
NONE: Points = (np.empty(0), np.empty(0))


def roc_points(scores: ArrayLike, labels: ArrayLike) -> Points:
    """False-alarm rate and hit rate at every score; its trapezoid area is the AUROC.

    Empty where a class is missing.

    Example:
        >>> [part.tolist() for part in roc_points([0.1, 0.9], [0, 1])]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(labels) == 1
    if not truth.any() or truth.all():
        return NONE
    thresholds = np.unique(values)
    good, bad = np.sort(values[~truth]), np.sort(values[truth])
    alarms = 1 - np.searchsorted(good, thresholds[::-1], side="left") / good.size
    hits = 1 - np.searchsorted(bad, thresholds[::-1], side="left") / bad.size
    return np.append(0.0, alarms), np.append(0.0, hits)


def precision_recall_points(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> Points:
    """Recall and precision over all pixels; precision summed over recall gained is the AP.

    Empty where no pixel is defective.
    """
    _, hits, alarms = threshold_counts(*flatten_pixels(maps, masks))
    if hits.size == 0:
        return NONE
    return hits / hits[-1], hits / (hits + alarms)


def overlap_points(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> Points:
    """False-positive rate and mean overlap of the regions; the area to a limit is the AUPRO.

    Corners as in ``metrics.region_overlap.aupro``. Empty where there is no region.
    """
    region: list[NDArray[Any]] = []
    weight: list[NDArray[np.float64]] = []
    good: list[NDArray[Any]] = []
    regions = 0
    for scores, mask, _ in checked_images(maps, masks, None):
        weights, count = region_weights(mask)
        regions += count
        region.append(scores[mask])
        weight.append(weights)
        good.append(scores[~mask])
    negatives = np.sort(np.concatenate(good)) if good else np.empty(0)
    if regions == 0 or negatives.size == 0:
        return NONE
    thresholds, group = np.unique(np.concatenate(region), return_inverse=True)
    gained = np.bincount(group, np.concatenate(weight), minlength=thresholds.size)[::-1]
    covered = np.cumsum(gained) / regions
    above = negatives.size - np.searchsorted(negatives, thresholds, side="right")[::-1]
    at = negatives.size - np.searchsorted(negatives, thresholds, side="left")[::-1]
    rate = np.stack([above, at], axis=-1).ravel() / negatives.size
    overlap = np.stack([np.append(0.0, covered[:-1]), covered], axis=-1).ravel()
    overlap = np.minimum(np.concatenate([[0.0], overlap, [1.0]]), 1.0)
    return np.concatenate([[0.0], rate, [1.0]]), overlap
