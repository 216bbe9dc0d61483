"""Every classifier that has a name: importing this registers them all."""

from chiasm.classifiers import (
    cross_fusion_memory,
    cross_modal_transformer,
    mad,
    perceiver_io,
    simple,
)

__all__ = ["cross_fusion_memory", "cross_modal_transformer", "mad", "perceiver_io", "simple"]
