"""Sources of candidate features for the fusion pools.

A source maps a batch to named maps. ``Pools`` lists which of them may be fused, and in which cell;
the genotype determines which are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.evidence.evidence import Cells, Evidence, SensorCells
from chiasm.detection.layers.backbones import Backbone
from chiasm.detection.layers.candidates import (
    EVIDENCE,
    NORMALITY_MAPS,
    RESIDUAL,
    RESIDUAL_STRIDE,
    cell_stride,
    is_required,
)
from chiasm.detection.layers.normality import Normality, NormalMemory
from chiasm.detection.layers.patches import join_strides
from chiasm.detection.layers.pretrained_weights import DEEPEST
from chiasm.detection.layers.reconstruction import (
    ReconstructionBranch,
)
from chiasm.fusion.evidence_units import Called, EvidenceUnit
from chiasm.samples import RGBDBatch


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


RELATIVE_DISTANCE = "relative distance"  # the mean of the sensors'


def distances_from_normal(features: SourcedFeatures) -> dict[str, Tensor]:
    """Return what a score rule may weigh beside a head: name to ``(N, 1, h, w)``.

    Of a map of evidence with several channels it is the last one.
    """
    distances: dict[str, Tensor] = {}
    if features.relative:
        # They have one size, so that one mean is resized later instead of each of them.
        distances[RELATIVE_DISTANCE] = torch.stack(list(features.relative.values())).mean(0)
    names = {name for maps in EVIDENCE.values() for name in maps}
    return distances | {n: m[:, -1:] for n, m in features.maps.items() if n in names}


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
    """Frozen features of each modality, and what speaks against their being normal.

    Maps per modality, of EfficientNet-lite0: ``raw`` (48 channels, stride 4: the input,
    pixel-unshuffled), ``f4``, ``f8``, ``f16`` (frozen features), ``residual_fine`` (64, stride 8:
    absolute residual of strides 4 and 8 from the nearest normal), ``residual_coarse`` (112, stride
    8: of stride 16) and ``distance`` (2, stride 8: distance and relative distance). Further maps
    are those of ``evidence``, see ``EVIDENCE``.

    Args:
        backbone: frozen features, shared by the modalities; geometry is read as a picture.
        memories: modality to its memory of normals.
        evidence: further evidence by name.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        memories: Mapping[str, NormalMemory],
        evidence: Mapping[str, Evidence] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        # torch types the values of a ModuleDict as plain modules.
        self.memories: MutableMapping[str, NormalMemory] = nn.ModuleDict(dict(memories))  # type: ignore[assignment]
        self.evidence: MutableMapping[str, Evidence] = nn.ModuleDict(dict(evidence or {}))  # type: ignore[assignment]
        self.modalities = tuple(memories)

    @torch.no_grad()
    def forward(self, batch: RGBDBatch, required: frozenset[str] | None = None) -> SourcedFeatures:
        """Compute the maps; with ``required``, only those and the relative distances."""
        maps: dict[str, Tensor] = {}
        relative: dict[str, Tensor] = {}
        cells: dict[str, SensorCells] = {}
        computed = {n: e for n, e in self.evidence.items() if is_required(n, required)}
        described = {sensor for evidence in computed.values() for sensor in evidence.sensors}
        for modality in self.modalities:
            image = images_of(batch, modality)
            memory = self.memories[modality] if modality in self.memories else None  # noqa: SIM401  # a ModuleDict has no get
            whole = memory is not None or modality in described
            deepest = DEEPEST if whole else self._deepest(modality, required)
            features = self.backbone(image, deepest=deepest)
            candidates = {"raw": F.pixel_unshuffle(image, 4)}
            candidates |= {f"f{stride}": value for stride, value in features.items()}
            normality: Normality | None = None
            if memory is not None:
                normality = memory(features, batch.foreground, batch.index)
                relative[modality] = normality.relative
                candidates |= _normality_maps(normality, memory.channels)
            if modality in described:
                cells[modality] = self._cells(features, normality)
            for name, value in candidates.items():
                if required is None or f"{modality}/{name}" in required:
                    maps[f"{modality}/{name}"] = value
        for evidence in computed.values():
            for name, value in evidence(cells, batch).items():
                if required is None or name in required:
                    maps[name] = value
        return SourcedFeatures(maps, {}, relative)

    @torch.no_grad()
    def cells(self, batch: RGBDBatch) -> Cells:
        """Describe the cells of every modality and compare them with its memory."""
        cells: dict[str, SensorCells] = {}
        for modality in self.modalities:
            features = self.backbone(images_of(batch, modality))
            normality = self.memories[modality](features, batch.foreground, batch.index)
            cells[modality] = self._cells(features, normality)
        return cells

    @property
    def cell_stride(self) -> int:
        """Pixels of the input per cell of a memory."""
        return cell_stride(self.backbone.channels)

    def _cells(self, features: Mapping[int, Tensor], normality: Normality | None) -> SensorCells:
        size = features[self.cell_stride].shape[-2:]
        return SensorCells(features, join_strides(features, size=size), normality)

    def _deepest(self, modality: str, required: frozenset[str] | None) -> int:
        strides = [s for s in self.backbone.channels if required and f"{modality}/f{s}" in required]
        return max(strides, default=4)

    def units(self, required: frozenset[str]) -> tuple[str, ...]:
        """Return the names of what has to be computed for some maps, each part of it once.

        ``rgb/backbone8`` is the part of the backbone between strides 4 and 8, on colours;
        ``rgb/memory`` the search of nearest normals, whose descriptors join all strides.
        """
        names: list[str] = []
        evidence = {n: e for n, e in self.evidence.items() if is_required(n, required)}
        described = {sensor for e in evidence.values() for sensor in e.sensors}
        remembered = {s for e in evidence.values() if e.reads_memory for s in e.sensors}
        for modality in self.modalities:
            compared = modality in remembered or any(
                f"{modality}/{name}" in required for name in NORMALITY_MAPS
            )
            whole = compared or modality in described
            strides = [s for s in self.backbone.channels if f"{modality}/f{s}" in required]
            deepest = max(self.backbone.channels) if whole else max(strides, default=0)
            names += [f"{modality}/backbone{s}" for s in self.backbone.channels if s <= deepest]
            names += [f"{modality}/memory"] if compared else []
        return (*names, *(f"evidence/{name}" for name in evidence))

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
                        Called(cast(nn.Module, self.backbone), _up_to(stride)),
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
        cells = self.cells(batch)
        for name, evidence in self.evidence.items():
            if evidence.exportable:  # else it has no place in an exported model
                network = Called(evidence, _evidence_call(evidence.sensors, strides))
                tensors = [t for sensor in evidence.sensors for t in _flat(cells[sensor])]
                inputs = (*tensors, batch.foreground)
                units.append(EvidenceUnit(f"evidence/{name}", network, inputs))
        return units

    @property
    def export_obstacle(self) -> str | None:
        """Why it is no graph of tensor operations, as the end of a sentence; None if it is one."""
        outside = [name for name, evidence in self.evidence.items() if not evidence.exportable]
        if not outside:
            return None
        return (
            f"its evidence {', '.join(outside)} is computed from points, outside of a graph of "
            "tensors; train it with other evidence"
        )

    def view(self) -> NormalityFeatures:
        """Return a source of the same parts, which can be pruned without changing this one."""
        view = NormalityFeatures(
            backbone=self.backbone, memories=dict(self.memories), evidence=dict(self.evidence)
        )
        view.modalities = self.modalities
        return view.train(self.training)

    def prune(self, required: frozenset[str], *, normality: bool = True) -> None:
        """Remove modalities, memories and evidence that no required map and no rule needs.

        Evidence that stays loses what only training needs.

        Args:
            required: names of the maps that the fusion network reads.
            normality: whether the score rule reads the relative distances; every memory then stays.
        """
        evidence = {
            name: evidence.for_prediction(required)
            for name, evidence in self.evidence.items()
            if is_required(name, required)
        }
        self.evidence = nn.ModuleDict(evidence)  # type: ignore[assignment]
        if normality:
            return
        read = {sensor for kept in evidence.values() for sensor in kept.sensors}
        compared = {s for kept in evidence.values() if kept.reads_memory for s in kept.sensors}
        self.modalities = tuple(
            m
            for m in self.modalities
            if m in read or any(name.startswith(f"{m}/") for name in required)
        )
        for modality in list(self.memories):
            own = any(f"{modality}/{name}" in required for name in NORMALITY_MAPS)
            if not own and modality not in compared:
                del self.memories[modality]


def _up_to(stride: int) -> Callable[..., Tensor]:
    return lambda backbone, image: backbone(image, deepest=stride)[stride]


def _compared(strides: Sequence[int]) -> Callable[..., tuple[Tensor, ...]]:
    def compare(memory: NormalMemory, *inputs: Tensor) -> tuple[Tensor, ...]:
        normality = memory(dict(zip(strides, inputs)), inputs[-1])
        return normality.residual, normality.distance, normality.relative

    return compare


def _flat(cells: SensorCells) -> tuple[Tensor, ...]:
    """Return all tensors of one sensor's cells, its features by rising stride."""
    compared = cells.compared
    features = (cells.features[stride] for stride in sorted(cells.features))
    return (*features, cells.descriptors, compared.residual, compared.distance, compared.relative)


def _evidence_call(
    sensors: Sequence[str], strides: Sequence[int]
) -> Callable[..., tuple[Tensor, ...]]:
    """Return what runs evidence on the tensors of ``_flat`` of each sensor and a foreground."""
    count = len(strides) + 4

    def call(evidence: Evidence, *inputs: Tensor) -> tuple[Tensor, ...]:
        cells = {}
        for number, sensor in enumerate(sensors):
            values = inputs[number * count : (number + 1) * count]
            features = dict(zip(strides, values))
            described, *normality = values[len(strides) :]
            cells[sensor] = SensorCells(features, described, Normality(*normality))
        return tuple(evidence(cells, RGBDBatch(None, None, inputs[-1])).values())

    return call


def _normality_maps(normality: Normality, channels: Mapping[int, int]) -> dict[str, Tensor]:
    """Name the maps of a comparison with a memory of some strides."""
    fine = sum(count for stride, count in channels.items() if stride < DEEPEST)
    residual = {
        "residual_fine": normality.residual[:, :fine],
        "residual_coarse": normality.residual[:, fine:],
    }
    maps = {name: value for name, value in residual.items() if value.shape[1]}
    return maps | {"distance": torch.cat([normality.distance, normality.relative], dim=1)}
