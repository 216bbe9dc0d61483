"""``auto``: several methods are trained, and the validation recordings choose one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chiasm.diagnosis.classifier import MODALITIES, Classifier
from chiasm.diagnosis.models.mad import mad_small
from chiasm.registry import register


@register("classifier", among=("excess_trees", "minirocket", "mad_small"), preset="quick")
def auto(
    *,
    modalities: Sequence[str] = MODALITIES,
    segment: int = 256,
    image_size: int = 256,
    **arguments: Any,
) -> Classifier:
    """Trees, MiniROCKET and MAD are trained, and the validation recordings choose one."""
    return mad_small(modalities=modalities, segment=segment, image_size=image_size, **arguments)
