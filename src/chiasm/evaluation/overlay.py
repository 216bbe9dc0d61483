"""One picture of one verdict: the part in grey, and on it in colour what is suspicious."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import AnomalyMap, FloatArray, RGBDSample

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def heat_overlay(anomaly_map: AnomalyMap, sample: RGBDSample, *, alarm: float) -> NDArray[np.uint8]:
    """Draw scores over the part; returns ``(H, W, 3)`` uint8, BGR as OpenCV writes it.

    Colour begins at half of ``alarm`` and is full at twice of it, so that pictures of one model
    compare: a part that is fine stays grey.

    Args:
        anomaly_map: of the part.
        sample: the part; its RGB, or where there is none its depth, is the ground.
        alarm: the image-level score at which a part is called defective.
    """
    ground = _ground(sample)
    colour, opacity = heat(anomaly_map.scores, alarm=alarm)
    share = opacity[..., None]
    return (ground * (1 - share) + colour * share).astype(np.uint8)


def heat(scores: FloatArray, *, alarm: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colour ``(H, W, 3)`` uint8, BGR, and opacity ``(H, W)`` in [0, 1] of scores ``(H, W)``."""
    strength = np.clip((scores / max(alarm, 1e-9) - 0.5) / 1.5, 0, 1)
    colour = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return colour.astype(np.uint8, copy=False), (0.85 * np.sqrt(strength)).astype(np.float32)


def _ground(sample: RGBDSample) -> NDArray[np.float32]:
    if sample.rgb is not None:
        grey = sample.rgb @ _GREY
    elif sample.xyz is not None and sample.valid.any():
        z = sample.xyz[..., 2]
        near, far = np.quantile(z[sample.valid], [0.01, 0.99])
        grey = np.where(sample.valid, np.clip((far - z) / max(far - near, 1e-9), 0, 1), 0)
    else:
        grey = np.zeros(sample.valid.shape, np.float32)
    return np.repeat((200 * grey)[..., None], 3, axis=2).astype(np.float32)
