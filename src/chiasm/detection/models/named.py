"""Every detector that has a name: importing this registers them all."""

from chiasm.detection.models import (
    adnas,
    asymmetric_student_teacher,
    btf,
    crossmodal_mapping,
    easynet,
    m3dm,
    pixel_gaussian,
    shape_guided,
    trivial,
)

__all__ = [
    "adnas",
    "asymmetric_student_teacher",
    "btf",
    "crossmodal_mapping",
    "easynet",
    "m3dm",
    "pixel_gaussian",
    "shape_guided",
    "trivial",
]
