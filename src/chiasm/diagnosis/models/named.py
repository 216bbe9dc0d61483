"""All named classifiers: importing this module registers them."""

from chiasm.diagnosis.models import (
    cross_fusion_memory,
    cross_modal_transformer,
    fused,
    late_average,
    mad,
    minirocket,
    perceiver_io,
    residual_cnn,
    simple,
)

__all__ = [
    "cross_fusion_memory",
    "cross_modal_transformer",
    "fused",
    "late_average",
    "mad",
    "minirocket",
    "perceiver_io",
    "residual_cnn",
    "simple",
]
