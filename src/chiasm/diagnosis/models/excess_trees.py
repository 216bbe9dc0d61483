"""Extremely randomised trees on exactly the inputs of the network: the simplest strong rival."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.diagnosis.layers.extra_trees import ExtraTrees
from chiasm.diagnosis.models.simple import FeatureClassifier, require_modality
from chiasm.registry import register


class PairMean:
    """The mean and the largest of a series' tokens of one length: as many features for any length.

    Args:
        length: values that repeat, two mains cycles of folded inputs.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, series: Tensor) -> Tensor:
        """Return features ``(N, 2 C length)`` of ``(N, C, T)``."""
        runs = max(1, series.shape[-1] // self.length)
        kept = series[..., : runs * self.length]
        if kept.shape[-1] < self.length:
            kept = nn.functional.pad(kept, (0, self.length - kept.shape[-1]))
        parts = kept.unflatten(-1, (runs, self.length))  # n c r l
        return torch.cat([parts.mean(dim=2), parts.amax(dim=2)], dim=-1).flatten(1)


def flat(pictures: Tensor) -> Tensor:
    """Return the pixels ``(N, D)`` of pictures."""
    return pictures.flatten(1)


@register("classifier", baseline=True, fitted=True, preset="folded", takes=("series", "image"))
def excess_trees(
    *,
    modalities: Sequence[str] = ("series",),
    classes: int = 5,
    image_size: int = 32,
    channels: int = 1,
    series_length: int = 153_600,
    samples_per_cycle: int = 128,
    trees: int = 500,
) -> FeatureClassifier:
    """Extremely randomised trees on the inputs of MAD's network: one modality, untuned."""
    image = tuple(modalities) == ("image",)
    require_modality("image" if image else "series", modalities)
    return FeatureClassifier(
        modality="image" if image else "series",
        features=flat if image else PairMean(2 * samples_per_cycle),
        machine=ExtraTrees(classes=classes, trees=trees),
        example_shape=(3, image_size, image_size) if image else (channels, series_length),
    )
