"""One picture of one verdict: the part in grey, and on it in colour what is suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import AnomalyMap, FloatArray, RGBDSample

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Heat is full at so many times what the alarm is above the usual.
_FULL = 3.0


@dataclass(frozen=True, slots=True)
class HeatScale:
    """From scores to heat, the same for all pictures of one model.

    Attributes:
        usual: score up to which nothing is coloured: a typical good part has none higher.
        alarm: score at which a part is called defective; a third of full heat.
    """

    usual: float
    alarm: float

    @classmethod
    def of(cls, calibration: Sequence[float], alarm: float) -> HeatScale:
        """The scale of a model with these scores of calibration normals; there may be none."""
        usual = float(np.median(calibration)) if len(calibration) else alarm / 2
        return cls(usual if usual < alarm else alarm / 2, alarm)

    def strength(self, scores: FloatArray) -> FloatArray:
        """Heat in [0, 1] of scores of any shape."""
        reach = _FULL * max(self.alarm - self.usual, 1e-9)
        return np.clip((scores - np.float32(self.usual)) / np.float32(reach), 0, 1)


def heat_overlay(
    anomaly_map: AnomalyMap, sample: RGBDSample, *, scale: HeatScale
) -> NDArray[np.uint8]:
    """Draw scores over the part; returns ``(H, W, 3)`` uint8, BGR as OpenCV writes it.

    A part that is fine stays grey.

    Args:
        anomaly_map: of the part.
        sample: the part; its RGB, or where there is none its depth, is the ground.
        scale: of the model.
    """
    ground = _ground(sample)
    colour, opacity = heat(anomaly_map.scores, scale=scale)
    share = opacity[..., None]
    return (ground * (1 - share) + colour * share).astype(np.uint8)


def heat(scores: FloatArray, *, scale: HeatScale) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colour ``(H, W, 3)`` uint8, BGR, and opacity ``(H, W)`` in [0, 1] of scores ``(H, W)``."""
    strength = scale.strength(scores)
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
