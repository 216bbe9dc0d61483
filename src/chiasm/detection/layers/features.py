"""Sources of candidate features for the fusion pools.

A source maps a batch to named maps. ``Pools`` lists which of them may be fused, and in which cell;
the genotype determines which are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.layers.backbones import FrozenEfficientNetLite
from chiasm.detection.layers.evidence_units import Called, EvidenceUnit
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.reconstruction import (
    ReconstructionBranch,
    stage_channels,
    stage_strides,
)
from chiasm.errors import ConfigurationError
from chiasm.fusion.pools import Candidate, Pools, joined
from chiasm.samples import RGBDBatch

MODALITIES = ("rgb", "geometry")

RESIDUAL, RESIDUAL_STRIDE = "residual", 4  # of an input from its restoration

NORMALITY_MAPS = ("residual_fine", "residual_coarse", "distance")  # computed by a memory


@dataclass(frozen=True, slots=True, eq=False)
class SourcedFeatures:
    """Features of a source.

    Attributes:
        maps: candidate name to ``(N, C, h, w)``.
        reconstructions: modality to ``(N, C, S, S)``; empty for a frozen source.
        relative: modality to ``(N, 1, h, w)`` relative distance from normal; empty for a source
            that learns.
    """

    maps: dict[str, Tensor]
    reconstructions: dict[str, Tensor] = field(default_factory=dict)
    relative: dict[str, Tensor] = field(default_factory=dict)


def images_of(batch: RGBDBatch, modality: str) -> Tensor:
    """Return the picture ``(N, 3, S, S)`` of one modality; ``ValueError`` if it is absent."""
    image = batch.rgb if modality == "rgb" else batch.geometry
    if image is None:
        raise ValueError(f"The batch has no {modality}, with which this network was trained.")
    return image


def clean_images_of(batch: RGBDBatch, modality: str) -> Tensor:
    """Return the picture ``(N, 3, S, S)`` of one modality without the synthetic anomalies.

    Raises ``ValueError`` for a batch that was not made for training.
    """
    image = batch.clean_rgb if modality == "rgb" else batch.clean_geometry
    if image is None:
        raise ValueError(
            f"The batch has no {modality} of the parts without their synthetic anomalies, which a "
            "reconstruction is compared with; make it with to_batch(..., clean=parts)."
        )
    return image


class ReconstructedFeatures(nn.Module):
    """The paper's source: stages of one reconstruction branch per modality, trained from scratch.

    Maps are named by modality and stage, for example ``"rgb/E1"`` and ``"geometry/D4"``. The map
    ``residual`` joins the input, its restoration and their absolute difference, pixel-unshuffled to
    stride 4. No gradient flows through it into the branch, which would else make the difference
    large instead of the restoration good.

    Args:
        branches: modality to its ``ReconstructionBranch``.

    References:
        Zavrtanik et al., DRAEM, ICCV 2021: the segmentation reads input and restoration together.
    """

    def __init__(self, *, branches: Mapping[str, ReconstructionBranch]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(dict(branches))

    def forward(self, batch: RGBDBatch, required: frozenset[str] | None = None) -> SourcedFeatures:
        """Run the branches that pruning has left."""
        maps: dict[str, Tensor] = {}
        reconstructions: dict[str, Tensor] = {}
        for modality, branch in self.branches.items():
            image = images_of(batch, modality)
            stages, reconstruction = branch(image)
            maps.update({f"{modality}/{stage}": value for stage, value in stages.items()})
            if reconstruction is not None:
                reconstructions[modality] = reconstruction
                if required is None or f"{modality}/{RESIDUAL}" in required:
                    restored = reconstruction.detach().to(image)
                    joint = torch.cat([image, restored, (image - restored).abs()], dim=1)
                    maps[f"{modality}/{RESIDUAL}"] = F.pixel_unshuffle(joint, RESIDUAL_STRIDE)
        return SourcedFeatures(maps, reconstructions)

    def units(self, required: frozenset[str]) -> tuple[str, ...]:
        """Return the names of what has to be computed for some maps: whole branches."""
        owners = {name.split("/")[0] for name in required}
        return tuple(f"{m}/branch" for m in self.branches if m in owners)

    def evidence_units(self, batch: RGBDBatch) -> list[EvidenceUnit]:
        """Return the units as networks of their own, with inputs of a batch."""
        return [
            EvidenceUnit(
                f"{m}/branch",
                Called(branch, lambda network, image: tuple(network(image)[0].values())),
                (images_of(batch, m),),
            )
            for m, branch in self.branches.items()
        ]

    def prune(self, required: frozenset[str], *, normality: bool = False) -> None:
        """Remove branches and stages that no required map needs; ``normality`` has no effect."""
        for modality in list(self.branches):
            stages = frozenset(
                {RESIDUAL: "R"}.get(stage, stage)
                for owner, stage in (name.split("/") for name in required)
                if owner == modality
            )
            branch = self.branches[modality]
            if stages:
                assert isinstance(branch, ReconstructionBranch)
                branch.prune(stages)
            else:
                del self.branches[modality]


class NormalityFeatures(nn.Module):
    """Frozen features of each modality, and their distance from normal.

    Maps per modality: ``raw`` (48 channels, stride 4: the input, pixel-unshuffled), ``f4``, ``f8``,
    ``f16`` (frozen features), ``residual_fine`` (64, stride 8: absolute residual of strides 4 and 8
    from the nearest normal), ``residual_coarse`` (112, stride 8: of stride 16) and ``distance`` (2,
    stride 8: distance and relative distance).

    Args:
        backbone: frozen features, shared by the modalities; geometry is read as a picture.
        memories: modality to its memory of normals.
    """

    def __init__(
        self, *, backbone: FrozenEfficientNetLite, memories: Mapping[str, NormalMemory]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        # torch types the values of a ModuleDict as plain modules.
        self.memories: MutableMapping[str, NormalMemory] = nn.ModuleDict(dict(memories))  # type: ignore[assignment]
        self.modalities = tuple(memories)

    @torch.no_grad()
    def forward(self, batch: RGBDBatch, required: frozenset[str] | None = None) -> SourcedFeatures:
        """Compute the maps; with ``required``, only those and the relative distances."""
        maps: dict[str, Tensor] = {}
        relative: dict[str, Tensor] = {}
        for modality in self.modalities:
            image = images_of(batch, modality)
            memory = self.memories[modality] if modality in self.memories else None  # noqa: SIM401  # a ModuleDict has no get
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

    def units(self, required: frozenset[str]) -> tuple[str, ...]:
        """Return the names of what has to be computed for some maps, each part of it once.

        ``rgb/backbone8`` is the part of the backbone between strides 4 and 8, on colours;
        ``rgb/memory`` the search of nearest normals, whose descriptors join all strides.
        """
        names: list[str] = []
        for modality in self.modalities:
            compared = any(f"{modality}/{name}" in required for name in NORMALITY_MAPS)
            strides = [s for s in self.backbone.channels if f"{modality}/f{s}" in required]
            deepest = max(self.backbone.channels) if compared else max(strides, default=0)
            names += [f"{modality}/backbone{s}" for s in self.backbone.channels if s <= deepest]
            names += [f"{modality}/memory"] if compared else []
        return tuple(names)

    @torch.no_grad()
    def evidence_units(self, batch: RGBDBatch) -> list[EvidenceUnit]:
        """Return the units as networks of their own, with inputs of a batch."""
        units: list[EvidenceUnit] = []
        strides = sorted(self.backbone.channels)
        for modality in self.modalities:
            image = images_of(batch, modality)
            for before, stride in zip([None, *strides], strides):
                units.append(
                    EvidenceUnit(
                        f"{modality}/backbone{stride}",
                        Called(self.backbone, _up_to(stride)),
                        (image,),
                        within=None if before is None else f"{modality}/backbone{before}",
                    )
                )
            features = self.backbone(image)
            units.append(
                EvidenceUnit(
                    f"{modality}/memory",
                    Called(self.memories[modality], _compared(strides)),
                    (*(features[s] for s in strides), batch.foreground),
                )
            )
        return units

    def prune(self, required: frozenset[str], *, normality: bool = True) -> None:
        """Remove modalities and memories that neither a required map nor the score rule needs.

        Args:
            required: names of the maps that the fusion network reads.
            normality: whether the score rule reads the relative distances; every memory then stays.
        """
        if normality:
            return
        self.modalities = tuple(
            m for m in self.modalities if any(name.startswith(f"{m}/") for name in required)
        )
        for modality in list(self.memories):
            if not any(f"{modality}/{name}" in required for name in NORMALITY_MAPS):
                del self.memories[modality]


def _up_to(stride: int) -> Callable[..., Tensor]:
    return lambda backbone, image: backbone(image, deepest=stride)[stride]


def _compared(strides: Sequence[int]) -> Callable[..., tuple[Tensor, ...]]:
    def compare(memory: NormalMemory, *inputs: Tensor) -> tuple[Tensor, ...]:
        normality = memory(dict(zip(strides, inputs)), inputs[-1])
        return normality.residual, normality.distance, normality.relative

    return compare


# Stages of each scale, from the finest; the last has no decoder's stage.
SCALES = {1: ("E1", "D4"), 2: ("E2", "D3"), 3: ("E3", "D2"), 4: ("E4", "D1"), 5: ("E5",)}
MIDDLE_SCALES = (2, 3)

FROZEN_MAPS = {  # channels and stride of the maps of NormalityFeatures per modality
    "raw": (48, 4),
    "f4": (24, 4),
    "f8": (40, 8),
    "f16": (112, 16),
    "residual_fine": (64, 8),
    "residual_coarse": (112, 8),
    "distance": (2, 8),
}

FROZEN_JOINED = {  # features and their residuals from normal, as the paper joins E_k and D_(5-k)
    "normality": ("residual_fine", "residual_coarse", "distance"),
    "fine": ("raw", "f4", "residual_fine"),
    "medium": ("f8", "residual_fine", "residual_coarse", "distance"),
    "all": ("raw", "f4", "f8", "f16", "residual_fine", "residual_coarse", "distance"),
}

FROZEN_STAGES = {
    "early": ("raw", "f4", "fine"),
    "middle": ("f8", "normality", "medium"),
    "late": ("f16", "normality", "all"),
}


# EasyNet's layers: stages of one size, several layers, and all that there is.
PAPER_JOINED = {"".join(stages): stages for stages in SCALES.values() if len(stages) > 1} | {
    "layers": ("E1", "D4", "E2", "D3", "E3", "D2"),
    "stages": ("E1", "D4", "E2", "D3", "E3", "D2", "E4", "D1", "E5"),
}


def reconstruction_pools(
    modalities: Sequence[str] = MODALITIES,
    *,
    width: int,
    stem: int = 1,
    joins: bool = True,
    middle_scales: Sequence[int] = MIDDLE_SCALES,
    bottleneck_stride: int | None = None,
    residual: bool = False,
) -> Pools:
    """The paper's pools by scale: early {E1, D4}, middle {E2, D3, E3, D2}, late {E4, D1, E5}.

    The paper does not say whether a candidate is one stage's map or EasyNet's layer, which joins an
    encoder's stage with the decoder's of the same size; the pools hold both. They also hold, of
    each modality, EasyNet's three layers and all maps as one candidate, so that a genotype can read
    whatever a hand-made concatenation reads.

    Args:
        modalities: with a reconstruction branch.
        width, stem: of a branch.
        joins: whether the pools hold the joined candidates.
        middle_scales: in the middle pool; finer ones are early, coarser ones late. The paper's
            Figure 4b compares the first two, 2 and 3, with all, 2 to 4.
        bottleneck_stride: of a branch.
        residual: whether the early pool holds ``residual``, what the restoration changed. It is not
            in the paper.

    Raises:
        ConfigurationError: the scales are not consecutive ones between the first and the last.
    """
    first, last = min(middle_scales, default=0), max(middle_scales, default=0)
    if tuple(middle_scales) != tuple(range(first, last + 1)) or first < 2 or last > 4:
        raise ConfigurationError(
            f"middle_scales is {','.join(map(str, middle_scales))}; it names consecutive scales "
            "from 2 to 4, as in 2,3 or 2,3,4: scale 1 is early and scale 5 late."
        )
    channels = stage_channels(width) | {RESIDUAL: 9 * RESIDUAL_STRIDE**2}
    strides = stage_strides(stem, bottleneck_stride) | {RESIDUAL: RESIDUAL_STRIDE}
    cells = {
        "early": range(1, first),
        "middle": range(first, last + 1),
        "late": range(last + 1, 6),
    }

    def candidate(modality: str, name: str) -> Candidate:
        if name in PAPER_JOINED:
            parts = (candidate(modality, part) for part in PAPER_JOINED[name])
            return joined(f"{modality}/{name}", *parts)
        return Candidate(f"{modality}/{name}", channels[name], strides[name], modality)

    def names(cell: str) -> tuple[str, ...]:
        stages = tuple(stage for scale in cells[cell] for stage in SCALES[scale])
        layers = tuple("".join(SCALES[s]) for s in cells[cell] if len(SCALES[s]) > 1)
        more = ("layers", "stages") if cell == "late" else ()
        changed = (RESIDUAL,) if residual and cell == "early" else ()
        return (*stages, *layers, *more, *changed) if joins else (*stages, *changed)

    return Pools(
        **{
            cell: tuple(
                candidate(modality, name) for modality in modalities for name in names(cell)
            )
            for cell in cells
        }
    )


def frozen_pools(modalities: Sequence[str] = MODALITIES) -> Pools:
    """Return the pools by scale of raw inputs, frozen features and their distance from normal."""

    def candidate(modality: str, name: str) -> Candidate:
        if name in FROZEN_JOINED:
            parts = (candidate(modality, part) for part in FROZEN_JOINED[name])
            return joined(f"{modality}/{name}", *parts)
        return Candidate(f"{modality}/{name}", *FROZEN_MAPS[name], modality)

    return Pools(
        **{
            cell: tuple(candidate(m, name) for m in modalities for name in names)
            for cell, names in FROZEN_STAGES.items()
        }
    )
