"""From a map of scores to one score for the image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError


def top_mean(
    scores: ArrayLike, share: float | None = None, *, k: int | None = None
) -> float | NDArray[np.float64]:
    """Return the mean of the highest scores of each map.

    Args:
        scores: ``(H, W)`` or ``(N, H, W)``.
        share: of the pixels to average over, in (0, 1]; at least one pixel is taken.
        k: how many pixels to average over instead; all where there are fewer.

    Returns:
        A float, or ``(N,)``, in the unit of the scores.

    Raises:
        ConfigurationError: not exactly one of ``share`` and ``k`` is given, or it is out of range.
        DataError: the scores are not ``(H, W)`` or ``(N, H, W)``, or have no pixel.

    Example:
        >>> top_mean([[0.0, 1.0], [3.0, 2.0]], k=2)
        2.5
    """
    values = _maps(scores)
    pixels = values.shape[-1] * values.shape[-2]
    if (share is None) == (k is None):
        raise ConfigurationError("Give either the share of pixels or their number k, not both.")
    if share is not None and not 0.0 < share <= 1.0:
        raise ConfigurationError(f"A share of {share} of the pixels is not in (0, 1].")
    if k is not None and k < 1:
        raise ConfigurationError(f"The mean of the {k} highest pixels needs k of at least 1.")
    count = min(pixels, k) if k is not None else max(1, round(pixels * (share or 0.0)))
    flat = values.reshape(*values.shape[:-2], pixels)
    highest = np.partition(flat, pixels - count, axis=-1)[..., pixels - count :]
    return _scalar(highest.mean(axis=-1, dtype=np.float64))


def pooled_max(scores: ArrayLike, size: int = 21) -> float | NDArray[np.float64]:
    """Return the maximum of each map after average pooling, stride 1, zeros beyond the border.

    Args:
        scores: ``(H, W)`` or ``(N, H, W)``.
        size: pixels of the square window, odd; zero padding of ``size // 2`` counts in the mean.

    Returns:
        A float, or ``(N,)``, in the unit of the scores.

    Raises:
        ConfigurationError: ``size`` is not a positive odd number.
        DataError: the scores are not ``(H, W)`` or ``(N, H, W)``, or have no pixel.

    References:
        Chen et al., EasyNet, ACM Multimedia 2023: image score from the 21 x 21 pooled map.

    Example:
        >>> pooled_max(np.ones((32, 32)))
        1.0
    """
    if size < 1 or size % 2 == 0:
        raise ConfigurationError(f"A pooling window of {size} pixels is not odd and positive.")
    values = _maps(scores)
    stack = np.ascontiguousarray(values.reshape(-1, *values.shape[-2:]), dtype=np.float32)
    best = np.array(
        [
            cv2.boxFilter(one, cv2.CV_64F, (size, size), borderType=cv2.BORDER_CONSTANT).max()
            for one in stack
        ]
    )
    return _scalar(best.reshape(values.shape[:-2]))


def _maps(scores: ArrayLike) -> NDArray[Any]:
    values = np.asarray(scores)
    if values.ndim not in (2, 3) or 0 in values.shape[-2:]:
        raise DataError(
            f"Anomaly maps of shape {values.shape} cannot be scored; they must be (H, W) or "
            "(N, H, W) with at least one pixel."
        )
    return values


def _scalar(values: NDArray[np.float64]) -> float | NDArray[np.float64]:
    return float(values) if values.ndim == 0 else values
