"""The per-region overlap curve: its regions, and the area under it up to a false positive rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ConfigurationError, DataError

DEFAULT_LIMITS = (0.3, 0.1, 0.05, 0.01)


def region_weights(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Weigh each defective pixel by one over the size of its 8-connected region.

    The mean over regions of the overlap at a threshold is then the weighted share of defective
    pixels at or above it, without a loop over the regions.

    Args:
        mask: ``(H, W)``, True on defective pixels.

    Returns:
        ``(weights, regions)``: the weights of ``mask``'s True pixels in row order, whose sum is
        the number of regions.
    """
    if not mask.any():
        return np.empty(0), 0
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    inside = labels[mask]
    sizes = np.bincount(inside, minlength=count)
    return 1.0 / sizes[inside], count - 1


def checked_limits(limits: Iterable[float]) -> tuple[float, ...]:
    """Return the limits as a tuple of floats.

    Raises:
        ConfigurationError: a limit is not in (0, 1].
    """
    values = tuple(float(limit) for limit in limits)
    for limit in values:
        if not 0.0 < limit <= 1.0:
            raise ConfigurationError(
                f"{limit} is not a limit of the false positive rate; it must be above 0 and at "
                "most 1, for instance 0.3."
            )
    return values


def refuse_nan(scores: NDArray[Any], index: int) -> None:
    """Raise a DataError if an anomaly map holds NaN, which cannot be ranked."""
    # The sum is NaN (or inf - inf) only if something is not finite; looking closer is rare.
    if not np.isfinite(scores.sum(dtype=np.float64)) and np.isnan(scores).any():
        raise DataError(
            f"The anomaly map of image {index} holds {int(np.isnan(scores).sum())} NaN pixels, "
            "and NaN cannot be ranked; check the model that produced them."
        )


def area_to_limit(
    rate: NDArray[np.float64], overlap: NDArray[np.float64], limit: float
) -> NDArray[np.float64]:
    """Return the area under a curve from rate 0 to the limit, divided by the limit.

    The trapezoid rule between the points, with linear interpolation where the limit falls
    between two of them.

    Args:
        rate: ``(..., K)`` false positive rates, not falling along the last axis, from 0 to 1.
        overlap: ``(..., K)`` overlap at the same thresholds, in [0, 1].
        limit: in (0, 1].

    Returns:
        ``(...)`` areas in [0, 1].
    """
    left, right = rate[..., :-1], rate[..., 1:]
    width = np.minimum(right, limit) - np.minimum(left, limit)
    step = right - left
    # Where a segment crosses the limit, only its first part counts, up to the interpolated height.
    part = np.divide(width, step, out=np.zeros_like(step), where=step > 0)
    low, high = overlap[..., :-1], overlap[..., 1:]
    return np.asarray(np.sum(width * (low + 0.5 * part * (high - low)), axis=-1) / limit)
