"""Fitting of the memories of normals: one pass over the normal parts, without gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from chiasm.detection.layers.features import NormalityFeatures, images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.patches import gather, gather_owners
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
) -> None:
    """Fit every memory of the source on normal parts.

    Args:
        source: with its memories.
        parts: prepared.
        scale: of their geometry pictures.
        seed: of the choice of descriptors.
        owners: owner of each part; the memory excludes the descriptors of a part's owner. None
            takes the parts' numbers.
        batch: parts at a time.
    """
    owners = range(len(parts)) if owners is None else owners
    descriptors: dict[str, list[torch.Tensor]] = {m: [] for m in source.modalities}
    descriptor_owners: list[torch.Tensor] = []
    for start in range(0, len(parts), batch):
        numbers = range(start, min(start + batch, len(parts)))
        inputs = to_batch(
            [parts[i] for i in numbers],
            scale,
            modalities=source.modalities,
            indices=[owners[i] for i in numbers],
        )
        assert inputs.index is not None
        inside: torch.Tensor | None = None
        for modality in source.modalities:
            memory = source.memories[modality]
            maps = memory.describe(source.backbone(images_of(inputs, modality)))
            if inside is None:
                inside = cells_inside(inputs.foreground, maps.shape[-2:])
                descriptor_owners.append(gather_owners(inputs.index, inside))
            descriptors[modality].append(gather(maps, inside))
    for modality in source.modalities:
        source.memories[modality].fit(
            torch.cat(descriptors[modality]), torch.cat(descriptor_owners), seed=seed
        )
