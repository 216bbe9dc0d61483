"""Arrays that a caller hands over, checked and made a sample."""

from __future__ import annotations

import cv2
import numpy as np

from chiasm.data.distance import check_metres
from chiasm.errors import DataError
from chiasm.samples import FloatArray, RGBDSample

_HUGE = 1e30  # metres


def sample_from_arrays(
    rgb: FloatArray | None, xyz: FloatArray | None, *, source: str = ""
) -> RGBDSample:
    """Check arrays and make a sample of them; raises ``DataError`` in a sentence."""
    for name, array in (("rgb", rgb), ("xyz", xyz)):
        if array is not None and (array.ndim != 3 or array.shape[2] != 3):
            raise DataError(
                f"{name} must have shape (height, width, 3), but has {tuple(array.shape)}."
            )
    if rgb is None and xyz is None:
        raise DataError("A part needs an RGB image, 3D points, or both; neither was given.")
    if rgb is not None and xyz is not None and rgb.shape != xyz.shape:
        raise DataError(
            f"rgb is {rgb.shape[1]} x {rgb.shape[0]} pixels and xyz {xyz.shape[1]} x "
            f"{xyz.shape[0]}: they must show the same pixels."
        )
    if rgb is not None and not np.issubdtype(rgb.dtype, np.floating):
        raise DataError(
            f"rgb must be floating point in [0, 1], but is {rgb.dtype}: divide 8-bit images by "
            "255 and 16-bit ones by 65535."
        )
    if xyz is not None and not np.issubdtype(xyz.dtype, np.floating):
        raise DataError(f"xyz must be floating point, in metres, but is {xyz.dtype}.")
    colours = None if rgb is None else np.ascontiguousarray(rgb, np.float32)
    points = None if xyz is None else np.ascontiguousarray(xyz, np.float32)
    if colours is not None and colours.size and not _within(colours, -0.01, 1.01):
        raise DataError(
            "rgb has values that are NaN or outside [0, 1]; divide 8-bit images by 255 and "
            "16-bit ones by 65535."
        )
    if points is not None and points.size and not _within(points, -_HUGE, _HUGE):
        raise DataError("xyz holds NaN or infinite values; write missing points as 0, 0, 0.")
    if points is not None and points.size:
        check_metres(points, source or "this part")
    if points is None or not points.size:
        valid = np.full((rgb if rgb is not None else points).shape[:2], points is None)
    else:
        valid = cv2.inRange(points, (0, 0, 0), (0, 0, 0)) == 0
    return RGBDSample(rgb=colours, xyz=points, valid=valid, source=source)


def _within(image: FloatArray, low: float, high: float) -> bool:
    """Whether all values of an image are numbers between the two."""
    return bool(low <= image.min() and image.max() <= high)  # of a NaN, both are NaN
