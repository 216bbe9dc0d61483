"""Import every module of named detectors, which registers them."""

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
