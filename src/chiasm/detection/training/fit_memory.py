"""Filling the memories of normals: one pass over the normal parts, no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from chiasm.detection.layers.features import NormalityFeatures, images_of
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.samples import PreparedSample


@torch.no_grad()
def fit_memory(
    source: NormalityFeatures,
    parts: Sequence[PreparedSample],
    *,
    scale: GeometryScale,
    seed: int = 0,
    owners: Sequence[int] | None = None,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fit every memory of the source on normal parts.

    Args:
        source: with its memories.
        parts: prepared.
        scale: of their geometry pictures.
        seed: of the choice of descriptors.
        owners: of each part's descriptors, what is left out for a part of that owner; None takes
            the parts' numbers.
        batch: parts at a time.
        progress: called with parts done and parts in all.
    """
    owned = list(range(len(parts))) if owners is None else owners
    descriptors: dict[str, list[torch.Tensor]] = {m: [] for m in source.modalities}
    owning: list[torch.Tensor] = []
    for start in range(0, len(parts), batch):
        numbers = range(start, min(start + batch, len(parts)))
        inputs = to_batch(
            [parts[i] for i in numbers],
            scale,
            modalities=source.modalities,
            indices=[owned[i] for i in numbers],
        )
        assert inputs.index is not None
        inside: torch.Tensor | None = None
        for modality in source.modalities:
            memory = source.memories[modality]
            described = memory.describe(source.backbone(images_of(inputs, modality)))
            if inside is None:
                inside = F.adaptive_max_pool2d(inputs.foreground, described.shape[-2:])[:, 0] > 0.5
                owning.append(inputs.index.view(-1, 1, 1).expand_as(inside)[inside])
            descriptors[modality].append(described.permute(0, 2, 3, 1)[inside])
        if progress is not None:
            progress(numbers[-1] + 1, len(parts))
    for modality in source.modalities:
        source.memories[modality].fit(
            torch.cat(descriptors[modality]), torch.cat(owning), seed=seed
        )
