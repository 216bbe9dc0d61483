"""A prepared part as it would have looked, had it lain there at another angle."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from chiasm.samples import BoolArray, FloatArray, PreparedSample


def turned(part: PreparedSample, degrees: float) -> PreparedSample:
    """Turn a part about the middle of its crop, around the camera's axis.

    Colours are interpolated; points, heights and normals are taken from the nearest pixel, so that
    none is invented, and turn with the picture. Light and shadow turn, too, as they would not.

    Args:
        part: prepared.
        degrees: clockwise, as the picture is seen.
    """
    size = part.foreground.shape[0]
    middle = (size - 1) / 2
    # OpenCV counts angles counter-clockwise.
    where = cv2.getRotationMatrix2D((middle, middle), -degrees, 1.0)

    def moved(image: np.ndarray, how: int = cv2.INTER_NEAREST) -> np.ndarray:
        found: np.ndarray = cv2.warpAffine(image, where, (size, size), flags=how)
        return found

    def moved_mask(mask: BoolArray) -> BoolArray:
        return moved(mask.view(np.uint8)).view(np.bool_)

    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))

    def about_the_axis(vectors: FloatArray) -> FloatArray:
        # Image and camera agree: x to the right, y down.
        out = vectors.copy()
        out[..., 0] = cosine * vectors[..., 0] - sine * vectors[..., 1]
        out[..., 1] = sine * vectors[..., 0] + cosine * vectors[..., 1]
        return out

    plane = part.plane
    if plane is not None:
        a, b, c, d = plane
        plane = (cosine * a - sine * b, sine * a + cosine * b, c, d)
    foreground = moved_mask(part.foreground)
    return replace(
        part,
        rgb=None if part.rgb is None else moved(part.rgb, cv2.INTER_LINEAR) * foreground[..., None],
        xyz=None if part.xyz is None else about_the_axis(moved(part.xyz)),
        height=None if part.height is None else moved(part.height),
        normals=None if part.normals is None else about_the_axis(moved(part.normals)),
        depth=None if part.depth is None else moved(part.depth),
        valid=moved_mask(part.valid),
        foreground=foreground,
        mask=None if part.mask is None else moved_mask(part.mask),
        plane=plane,
    )
