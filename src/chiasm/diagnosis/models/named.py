"""Every classifier that has a name: importing this registers them all."""

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
