"""The checks that every reader makes before it hands out a sample."""

from __future__ import annotations

import numpy as np

from chiasm.data.distance import check_metres
from chiasm.data.source import SampleRef
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
