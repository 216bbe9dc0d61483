"""Heat map of anomaly scores over the grey image of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import AnomalyMap, FloatArray, RGBDSample

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Heat is full at this multiple of the distance from typical score to alarm threshold.
_FULL = 3.0


@dataclass(frozen=True, slots=True)
class HeatScale:
    """Mapping of scores to heat, the same for all pictures of a model.

    Attributes:
        typical: score of a typical good part; lower scores are not coloured.
        alarm: threshold of the alarm; a third of full heat.
    """

    typical: float
    alarm: float

    @classmethod
    def of(cls, calibration: Sequence[float] | NDArray[np.float64], alarm: float) -> HeatScale:
        """Return the scale for the scores of calibration normals, which may be empty."""
        typical = float(np.median(calibration)) if len(calibration) else alarm / 2
        return cls(typical if typical < alarm else alarm / 2, alarm)

    def strength(self, scores: FloatArray) -> FloatArray:
        """Return heat in [0, 1] for scores of any shape."""
        span = _FULL * max(self.alarm - self.typical, 1e-9)
        return np.clip((scores - np.float32(self.typical)) / np.float32(span), 0, 1)


def heat_overlay(
    anomaly_map: AnomalyMap, sample: RGBDSample, *, scale: HeatScale
) -> NDArray[np.uint8]:
    """Draw scores over the part; return ``(H, W, 3)`` uint8, BGR as OpenCV writes it.

    A normal part stays grey.

    Args:
        anomaly_map: of the part.
        sample: the part; its RGB image, or without one its depth, is the background.
        scale: of the model.
    """
    background = _background(sample)
    colour, opacity = heat(anomaly_map.scores, scale=scale)
    share = opacity[..., None]
    return (background * (1 - share) + colour * share).astype(np.uint8)


def heat(scores: FloatArray, *, scale: HeatScale) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return colour ``(H, W, 3)`` uint8, BGR, and opacity ``(H, W)`` in [0, 1]."""
    strength = scale.strength(scores)
    colour = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return colour.astype(np.uint8, copy=False), (0.85 * np.sqrt(strength)).astype(np.float32)


def _background(sample: RGBDSample) -> NDArray[np.float32]:
    if sample.rgb is not None:
        grey = sample.rgb @ _GREY
    elif sample.xyz is not None and sample.valid.any():
        z = sample.xyz[..., 2]
        near, far = np.quantile(z[sample.valid], [0.01, 0.99])
        grey = np.where(sample.valid, np.clip((far - z) / max(far - near, 1e-9), 0, 1), 0)
    else:
        grey = np.zeros(sample.valid.shape, np.float32)
    return np.repeat((200 * grey)[..., None], 3, axis=2).astype(np.float32)
