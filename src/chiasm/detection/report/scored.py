"""A verdict with its labelled sample, resized to the frame in which figures are computed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from chiasm.samples import BoolArray, FloatArray, RGBDSample, Verdict

FRAME = 256


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSample:
    """A verdict and its sample."""

    verdict: Verdict
    sample: RGBDSample

    @property
    def has_pixel_truth(self) -> bool:
        """Whether the truth of each pixel is known; it is not for a defect without a mask."""
        return self.sample.label == 0 or self.sample.mask is not None


def framed(scored: ScoredSample, *, side: int = FRAME) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return map, mask and foreground with a longer side of ``side`` pixels.

    Scores are resized bilinearly, masks by nearest neighbour, as in the papers.
    """
    anomaly_map = scored.verdict.anomaly_map
    assert anomaly_map is not None
    height, width = anomaly_map.scores.shape
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    mask = scored.sample.mask
    if mask is None:
        mask = np.zeros((height, width), bool)

    def resized(array: BoolArray) -> BoolArray:
        small = cv2.resize(array.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
        return small > 0

    scores = cv2.resize(anomaly_map.scores, size, interpolation=cv2.INTER_LINEAR)
    return scores.astype(np.float32), resized(mask), resized(anomaly_map.foreground)
