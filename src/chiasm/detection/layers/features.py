"""Sources of candidate features: what the fusion pools are fed from.

A source maps a batch to named maps. Which of them may be fused, and in which cell, is a list
(``Pools``); which are computed at all is what the genotype requires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.layers.backbones import FrozenEfficientNetLite
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.reconstruction import (
    ReconstructionBranch,
    stage_channels,
    stage_strides,
)
from chiasm.fusion.pools import Candidate, Pools, joined
from chiasm.samples import RGBDBatch

MODALITIES = ("rgb", "geometry")

MEASURED = ("residual_fine", "residual_coarse", "distance")  # maps that a memory makes


@dataclass(frozen=True, slots=True, eq=False)
class SourcedFeatures:
    """What a feature source returns.

    Attributes:
        maps: candidate name to ``(N, C, h, w)``.
        reconstructions: modality to ``(N, C, S, S)``, where the source reconstructs.
        relative: modality to ``(N, 1, h, w)``, distance from normal, where the source measures it.
    """

    maps: dict[str, Tensor]
    reconstructions: dict[str, Tensor] = field(default_factory=dict)
    relative: dict[str, Tensor] = field(default_factory=dict)


def images_of(batch: RGBDBatch, modality: str) -> Tensor:
    """The picture ``(N, 3, S, S)`` of one modality; raises ``ValueError`` where it is absent."""
    image = batch.rgb if modality == "rgb" else batch.geometry
    if image is None:
        raise ValueError(f"The batch has no {modality}, which this network was trained with.")
    return image


class ReconstructedFeatures(nn.Module):
    """The paper's source: stages of one reconstruction branch per modality, learnt from scratch.

    Maps are named ``"rgb/E1"``, ``"geometry/D4"`` and so on.

    Args:
        branches: modality to its ``ReconstructionBranch``.
    """

    frozen = False

    def __init__(self, *, branches: Mapping[str, ReconstructionBranch]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(dict(branches))

    def forward(self, batch: RGBDBatch, required: frozenset[str] | None = None) -> SourcedFeatures:
        """Run the branches that are still there."""
        maps: dict[str, Tensor] = {}
        reconstructions: dict[str, Tensor] = {}
        for modality, branch in self.branches.items():
            stages, reconstruction = branch(images_of(batch, modality))
            maps.update({f"{modality}/{stage}": value for stage, value in stages.items()})
            if reconstruction is not None:
                reconstructions[modality] = reconstruction
        return SourcedFeatures(maps, reconstructions)

    def prune(self, required: frozenset[str], *, normality: bool = False) -> None:
        """Drop branches and stages that no required map needs; there is no normality here."""
        for modality in list(self.branches):
            stages = frozenset(
                name.split("/")[1] for name in required if name.startswith(f"{modality}/")
            )
            if stages:
                self.branches[modality].prune(stages)
            else:
                del self.branches[modality]


class NormalityFeatures(nn.Module):
    """The light source: frozen features of each modality, and what is not normal in them.

    Maps per modality: ``raw`` (48 channels, stride 4: the input, pixel-unshuffled), ``f4``, ``f8``,
    ``f16`` (frozen features), ``residual_fine`` (64, stride 8: absolute residual of strides 4 and 8
    from the nearest normal), ``residual_coarse`` (112, stride 8: of stride 16) and ``distance`` (2,
    stride 8: distance and relative distance).

    Args:
        backbone: frozen features, shared by the modalities; geometry goes in as a picture.
        memories: modality to its memory of normals.
    """

    frozen = True

    def __init__(
        self, *, backbone: FrozenEfficientNetLite, memories: Mapping[str, NormalMemory]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.memories = nn.ModuleDict(dict(memories))
        self.modalities = tuple(memories)

    @torch.no_grad()
    def forward(self, batch: RGBDBatch, required: frozenset[str] | None = None) -> SourcedFeatures:
        """Compute the maps; with ``required``, only those and the relative distances."""
        maps: dict[str, Tensor] = {}
        relative: dict[str, Tensor] = {}
        for modality in self.modalities:
            image = images_of(batch, modality)
            memory = self.memories[modality] if modality in self.memories else None  # noqa: SIM401
            deepest = 16 if memory is not None else self._deepest(modality, required)
            features = self.backbone(image, deepest=deepest)
            candidates = {"raw": F.pixel_unshuffle(image, 4)}
            candidates |= {f"f{stride}": value for stride, value in features.items()}
            if memory is not None:
                normality = memory(features, batch.foreground, batch.index)
                relative[modality] = normality.relative
                fine = memory.channels[4] + memory.channels[8]
                candidates |= {
                    "residual_fine": normality.residual[:, :fine],
                    "residual_coarse": normality.residual[:, fine:],
                    "distance": torch.cat([normality.distance, normality.relative], dim=1),
                }
            for name, value in candidates.items():
                if required is None or f"{modality}/{name}" in required:
                    maps[f"{modality}/{name}"] = value
        return SourcedFeatures(maps, {}, relative)

    def _deepest(self, modality: str, required: frozenset[str] | None) -> int:
        strides = [s for s in self.backbone.channels if required and f"{modality}/f{s}" in required]
        return max(strides, default=4)

    def prune(self, required: frozenset[str], *, normality: bool = True) -> None:
        """Drop sensors and memories that neither a required map nor the score rule needs.

        Args:
            required: names of the maps that the fusion network reads.
            normality: the score rule reads the relative distances, so every memory stays.
        """
        if normality:
            return
        self.modalities = tuple(
            m for m in self.modalities if any(name.startswith(f"{m}/") for name in required)
        )
        for modality in list(self.memories):
            if not any(f"{modality}/{name}" in required for name in MEASURED):
                del self.memories[modality]


PAPER_STAGES = {
    "early": ("E1", "D4"),
    "middle": ("E2", "D3", "E3", "D2"),
    "late": ("E4", "D1", "E5"),
}

LIGHT_MAPS = {  # channels and stride of what the light source makes per sensor
    "raw": (48, 4),
    "f4": (24, 4),
    "f8": (40, 8),
    "f16": (112, 16),
    "residual_fine": (64, 8),
    "residual_coarse": (112, 8),
    "distance": (2, 8),
}

LIGHT_JOINED = {  # what is there and what is not normal in it, as the paper joins E_k and D_(5-k)
    "normality": ("residual_fine", "residual_coarse", "distance"),
    "fine": ("raw", "f4", "residual_fine"),
    "medium": ("f8", "residual_fine", "residual_coarse", "distance"),
    "all": ("raw", "f4", "f8", "f16", "residual_fine", "residual_coarse", "distance"),
}

LIGHT_CANDIDATES = {
    "early": ("raw", "f4", "fine"),
    "middle": ("f8", "normality", "medium"),
    "late": ("f16", "normality", "all"),
}


def reconstruction_pools(
    modalities: Sequence[str] = MODALITIES, *, width: int, stem: int = 1
) -> Pools:
    """The paper's pools by scale: early {E1, D4}, middle {E2, D3, E3, D2}, late {E4, D1, E5}."""
    channels, strides = stage_channels(width), stage_strides(stem)
    return Pools(
        **{
            cell: tuple(
                Candidate(f"{modality}/{stage}", channels[stage], strides[stage], modality)
                for modality in modalities
                for stage in stages
            )
            for cell, stages in PAPER_STAGES.items()
        }
    )


def frozen_pools(modalities: Sequence[str] = MODALITIES) -> Pools:
    """The light pools: raw inputs, frozen features and what is not normal in them, by scale."""

    def candidate(modality: str, name: str) -> Candidate:
        if name in LIGHT_JOINED:
            parts = (candidate(modality, part) for part in LIGHT_JOINED[name])
            return joined(f"{modality}/{name}", *parts)
        return Candidate(f"{modality}/{name}", *LIGHT_MAPS[name], modality)

    return Pools(
        **{
            cell: tuple(candidate(m, name) for m in modalities for name in names)
            for cell, names in LIGHT_CANDIDATES.items()
        }
    )
