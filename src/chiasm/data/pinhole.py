"""The pinhole camera: from a depth image and intrinsics to an organised point map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import FloatArray


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A camera without distortion.

    Attributes:
        fx, fy: focal length in pixels.
        cx, cy: principal point in pixels; (0, 0) is the centre of the first pixel.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(np.isfinite(values)) or self.fx <= 0 or self.fy <= 0:
            raise DataError(
                f"Camera intrinsics fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy} are "
                "impossible: all must be finite and the focal lengths positive, in pixels."
            )


def back_project(depth: NDArray[np.floating], camera: Intrinsics) -> FloatArray:
    """Place each pixel at its depth along the camera's line of sight.

    ``depth`` is ``(H, W)`` metres along the optical axis (not along the ray), 0 where missing.
    Returns ``(H, W, 3)`` float32 metres, x right, y down, z forward, 0 where missing.

    Example:
        >>> back_project(np.full((1, 2), 2.0), Intrinsics(fx=1, fy=1, cx=0, cy=0))[0, 1].tolist()
        [2.0, 0.0, 2.0]
    """
    height, width = depth.shape
    z = depth.astype(np.float64)
    x = (np.arange(width)[None, :] - camera.cx) / camera.fx * z
    y = (np.arange(height)[:, None] - camera.cy) / camera.fy * z
    return np.stack([x, y, z], axis=2).astype(np.float32)
