"""The checks that every reader makes before it hands out a sample."""

from __future__ import annotations

import cv2
import numpy as np

from chiasm.detection.preparation.distance import check_metres
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.samples import BoolArray, FloatArray, RGBDSample


def checked_sample(
    ref: SampleRef, rgb: FloatArray | None, xyz: FloatArray | None, mask: BoolArray | None
) -> RGBDSample:
    """Join the images of one part into a sample.

    ``rgb`` and ``xyz`` are ``(H, W, 3)``, at least one of them given; ``mask`` is ``(H, W)``. A
    part that is labelled good and has no mask gets an empty one. Raises ``DataError`` where sizes
    differ, no 3D point was measured, points are too far for metres, or mask and label contradict
    each other.
    """
    images = {"rgb": rgb, "xyz": xyz, "mask": mask}
    sizes = {role: image.shape[:2] for role, image in images.items() if image is not None}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{role} {h}x{w} ({_file(ref, role)})" for role, (h, w) in sizes.items())
        raise DataError(
            f"The images of one part differ in size (height x width): {found}. They must be "
            "registered pixel by pixel; resample one to the other's frame first."
        )
    size = next(iter(sizes.values()))
    if xyz is None:
        valid = np.ones(size, dtype=np.bool_)
    else:
        valid = np.asarray((xyz != 0).any(axis=2))
        if not valid.any():
            raise DataError(
                f"{_file(ref, 'xyz')} holds no 3D point at all: every pixel is 0 (missing). "
                "Record the part again."
            )
        check_metres(xyz, _file(ref, "xyz"))
    if ref.label == 1 and mask is not None and not mask.any():
        raise DataError(
            f"{_file(ref, 'mask')} is empty although {ref.source} is labelled defective "
            f"({ref.kind or 'no kind given'}); draw the defect or label the part good."
        )
    if ref.label == 0:
        if mask is None:
            mask = np.zeros(size, dtype=np.bool_)
        elif mask.any():
            raise DataError(
                f"{_file(ref, 'mask')} marks {int(mask.sum())} defective pixels although "
                f"{ref.source} is labelled good; empty the mask or label the part defective."
            )
    return RGBDSample(
        rgb=rgb,
        xyz=xyz,
        valid=valid,
        mask=mask,
        label=ref.label,
        kind=ref.kind,
        group=ref.group,
        split=ref.split,
        source=ref.source,
    )


def _file(ref: SampleRef, role: str) -> str:
    """Path of the file that holds a role; 3D points may come from a depth image."""
    path = ref.files.get(role) or (ref.files.get("depth") if role == "xyz" else None)
    return str(path or ref.source)


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
