"""AUPRO: the exact area under the per-region overlap curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.metrics import metric
from chiasm.metrics.overlap_curve import (
    DEFAULT_LIMITS,
    area_to_limit,
    checked_limits,
    refuse_nan,
    region_weights,
)
from chiasm.metrics.ranking import checked_images


@metric()
def aupro(
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    limits: Sequence[float] = DEFAULT_LIMITS,
    foregrounds: Sequence[ArrayLike] | None = None,
) -> dict[float, float]:
    """Return the area under the per-region overlap curve up to each false positive rate.

    Every distinct score is a threshold. At each, the overlap is the mean over all 8-connected
    defective regions, of all images, of the share of the region's pixels at or above the
    threshold; the false positive rate is the share of good pixels at or above it. The curve is
    integrated by the trapezoid rule from rate 0 to the limit, with linear interpolation at the
    limit, and divided by the limit: 1 is perfect. The curve starts at (0, 0) and always ends at
    (1, 1), because the lowest score is a threshold too. So it reaches every limit: where tied
    scores make it jump across the limit, the jump is a straight line, which is what breaking the
    ties at random gives on average. A constant map therefore has ``limit / 2``.

    Args:
        maps: ``(H, W)`` scores per image, larger is more anomalous; sizes may differ.
        masks: ``(H, W)`` per image, non-zero on defective pixels; all zero for a good image.
        limits: false positive rates in (0, 1].
        foregrounds: ``(H, W)`` per image, non-zero on the object. Where given, only good pixels on
            the object count as negatives; the regions stay whole.

    Returns:
        The area by limit, in [0, 1]; nan where there is no region or no good pixel.

    Raises:
        DataError: numbers or shapes of maps, masks and foregrounds differ, or a score is NaN.
        ConfigurationError: a limit is not in (0, 1].

    References:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.2.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[2:4, 2:4] = True
        >>> aupro([mask * 1.0], [mask], limits=(0.3, 0.05))
        {0.3: 1.0, 0.05: 1.0}
    """
    limits = checked_limits(limits)
    rate, overlap = overlap_curve(maps, masks, foregrounds)
    if rate.size == 0:
        return dict.fromkeys(limits, float("nan"))
    return {limit: float(area_to_limit(rate, overlap, limit)) for limit in limits}


def overlap_curve(
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    foregrounds: Sequence[ArrayLike] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the per-region overlap curve; arguments and errors are ``aupro``'s.

    Returns:
        False positive rates and mean overlaps, ``(K,)`` each, from (0, 0) to (1, 1); empty where
        there is no region or no good pixel.
    """
    good, region, weight, regions = [], [], [], 0
    for index, (scores, mask, foreground) in enumerate(checked_images(maps, masks, foregrounds)):
        refuse_nan(scores, index)
        weights, count = region_weights(mask)
        regions += count
        region.append(scores[mask])
        weight.append(weights)
        good.append(scores[~mask if foreground is None else foreground & ~mask])
    negatives = np.concatenate(good) if good else np.empty(0)
    if regions == 0 or negatives.size == 0:
        return np.empty(0), np.empty(0)

    # The overlap is constant between two distinct scores of region pixels, so the curve has its
    # corners just above and at each of these, and good pixels are counted only there.
    thresholds, group = np.unique(np.concatenate(region), return_inverse=True)
    gained = np.bincount(group, np.concatenate(weight), minlength=thresholds.size)[::-1]
    negatives.sort()
    above = negatives.size - np.searchsorted(negatives, thresholds, side="right")[::-1]
    at = negatives.size - np.searchsorted(negatives, thresholds, side="left")[::-1]
    covered = np.cumsum(gained) / regions
    rate = np.stack([above, at], axis=-1).ravel() / negatives.size
    overlap = np.stack([np.append(0.0, covered[:-1]), covered], axis=-1).ravel()
    overlap = np.minimum(np.concatenate([[0.0], overlap, [1.0]]), 1.0)
    return np.concatenate([[0.0], rate, [1.0]]), overlap
