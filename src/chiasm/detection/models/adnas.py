"""3D-ADNAS: feature source, searched fusion network and segmentation head as one detector.

References:
    Revisiting Multimodal Fusion for 3D Anomaly Detection from an Architectural Perspective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.detection.detector import Detector
from chiasm.detection.evidence.crossmodal import CrossmodalError
from chiasm.detection.evidence.evidence import Agreement, Evidence
from chiasm.detection.evidence.fpfh_distance import FpfhDistance
from chiasm.detection.evidence.scaled_distance import ScaledDistance
from chiasm.detection.layers.backbones import DEFAULT_BACKBONE, make_backbone
from chiasm.detection.layers.candidates import (
    MEMORY,
    MIDDLE_SCALES,
    MODALITIES,
    cell_stride,
    chosen_evidence,
    frozen_pools,
    reconstruction_pools,
)
from chiasm.detection.layers.features import (
    RELATIVE_DISTANCE,
    NormalityFeatures,
    ReconstructedFeatures,
    SourcedFeatures,
    distances_from_normal,
    images_of,
)
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.reconstruction import ReconstructionBranch
from chiasm.detection.layers.segmentation import Loss, SegmentationHead
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.make import AnyFusion, make_fusion
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import CELLS, Pools
from chiasm.fusion.recomputation import Recomputable
from chiasm.registry import register
from chiasm.samples import RGBDBatch
from chiasm.training.ranks import draw_rows


@dataclass(frozen=True, slots=True, eq=False)
class DetectorOutput:
    """Output of a detector for a batch.

    Attributes:
        logits: ``(N, 2, s, s)`` of the head, good and anomalous, at the fusion's size.
        reconstructions: modality to ``(N, C, S, S)``; empty for a frozen source.
        distances: name to ``(N, 1, h, w)`` distance from normal that the score rule may weigh: the
            mean of the sensors' relative distances, and maps of evidence; empty for a source that
            learns.
    """

    logits: Tensor
    reconstructions: dict[str, Tensor] = field(default_factory=dict)
    distances: dict[str, Tensor] = field(default_factory=dict)


class AdnasDetector(Detector):
    """Candidate features, a fusion network, a head, and the rule that computes scores from them.

    Args:
        source: makes the candidate features.
        fusion: supernet, derived network or hand-made fusion.
        head: ``(N, C, s, s)`` to two logits.
        loss: that it is trained with, see ``total_loss``.
        score_distance: at first, see the attribute.

    Attributes:
        head_weight, normality_weight: weights of the head's log-odds and of the distance from
            normal in the score, see ``set_score_rule``; a normality weight of 0 leaves the head
            alone.
        score_distance: name of the distance from normal that is weighed.
        map_dropout: probability that a map of a part is all zeros in training, each map by itself.
    """

    map_link = "softplus"
    head_weight: Tensor
    normality_weight: Tensor

    def __init__(
        self,
        *,
        source: ReconstructedFeatures | NormalityFeatures,
        fusion: AnyFusion,
        head: SegmentationHead,
        loss: Loss = "focal_dice",
        score_distance: str = RELATIVE_DISTANCE,
    ) -> None:
        super().__init__()
        self.source = source
        self.fusion = fusion
        self.head = head
        self.loss: Loss = loss
        self.score_distance = score_distance
        self.map_dropout = 0.0
        self.register_buffer("normality_weight", torch.zeros(()))
        self.register_buffer("head_weight", torch.ones(()))

    @property
    def export_obstacle(self) -> str | None:
        """Why there is no graph of it; None where there is one."""
        return None if self.frozen_source is None else self.frozen_source.export_obstacle

    @property
    def frozen_source(self) -> NormalityFeatures | None:
        """The source with frozen features and memories of normals; None where the source learns."""
        return self.source if isinstance(self.source, NormalityFeatures) else None

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the frozen features; None for a detector trained from scratch."""
        frozen = self.frozen_source
        return None if frozen is None else str(frozen.backbone.weights)

    @property
    def keeps_products_apart(self) -> bool:
        """True of frozen features: what the fusion reads is relative to a memory of normals."""
        return self.frozen_source is not None

    def frozen_pass(self, batch: RGBDBatch) -> None:
        """Run the frozen backbone on both sensors; nothing where the source learns."""
        if (frozen := self.frozen_source) is not None:
            for modality in frozen.modalities:
                frozen.backbone(images_of(batch, modality))

    def forward(self, batch: RGBDBatch) -> DetectorOutput:
        """Run source, fusion and head on a batch."""
        return self.fuse(self.source(batch, self.required))

    @property
    def required(self) -> frozenset[str]:
        """Names of the maps that the fusion reads, and the score rule where it reads evidence."""
        if self.score_distance == RELATIVE_DISTANCE or float(self.normality_weight) == 0:
            return self.fusion.required
        return self.fusion.required | {self.score_distance}

    def fuse(self, features: SourcedFeatures) -> DetectorOutput:
        """Run fusion and head on features that the source computed before."""
        maps = features.maps
        if self.training and self.map_dropout > 0:
            maps = {name: self._dropped(value) for name, value in maps.items()}
        logits = self.head(self.fusion(maps))
        return DetectorOutput(logits, features.reconstructions, distances_from_normal(features))

    def _dropped(self, value: Tensor) -> Tensor:
        """Set a map ``(N, C, h, w)`` of some parts to zero.

        What is left is not scaled: a map that says nothing is zero in prediction as well.
        """
        chances = draw_rows(torch.rand, len(value), 1, 1, 1, device=value.device)
        return value * (chances >= self.map_dropout)

    def set_score_rule(
        self, *, head: float, normality: float, distance: str = RELATIVE_DISTANCE
    ) -> None:
        """Weigh the head's log-odds and a distance from normal, by its name, in the score."""
        self.head_weight.fill_(head)
        self.normality_weight.fill_(normality)
        self.score_distance = distance

    def scores(self, output: DetectorOutput, foreground: Tensor) -> Tensor:
        """Compute anomaly maps ``(N, 1, S, S)``, at least 0, exactly 0 off the object.

        The log-odds and a distance from normal are weighted, smoothed and passed through softplus,
        which preserves their order.
        """
        size = foreground.shape[-2:]
        odds = output.logits[:, 1:] - output.logits[:, :1]
        maps = [(self.head_weight, odds)]
        if output.distances and float(self.normality_weight) != 0:
            maps.append((self.normality_weight, output.distances[self.score_distance]))
        smoothed = self.maps.weighted_smooth(maps, size, sigma=size[0] / 100)
        return F.softplus(smoothed) * self.maps.dilated_foreground(foreground)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load saved weights, pruned as the saved score rule permits."""
        self.set_score_rule(
            head=float(state["head_weight"]),
            normality=float(state["normality_weight"]),
            distance=self.score_distance,
        )
        self.prune()
        super().restore(state)

    def recompute_activations(self, recompute: bool = True) -> None:
        """Keep only the inputs of stages, cells and head for the gradients, or all activations."""
        for layer in self.modules():
            if isinstance(layer, Recomputable):
                layer.recompute = recompute

    def prune(self) -> None:
        """Remove every part of the source that neither fusion nor score rule requires."""
        if (frozen := self.frozen_source) is not None:
            self.source = frozen.view()  # the detectors of a run share it
        weighed = float(self.normality_weight) != 0
        self.source.prune(
            self.required, normality=weighed and self.score_distance == RELATIVE_DISTANCE
        )


EVERY = ("*",)  # pattern of the names of candidates


class BranchSize(TypedDict):
    """Width of a reconstruction branch, and the pixel-unshuffle factor in front of it."""

    width: int
    stem: int


PAPER_BRANCH: BranchSize = {"width": 128, "stem": 1}
SLIM_BRANCH: BranchSize = {"width": 16, "stem": 2}


def _from_scratch(
    fusion: Genotype | str,
    *,
    branch: BranchSize,
    width: int,
    size: int,
    hidden: tuple[int, int],
    as_published: bool,
    modalities: Sequence[str],
    pools: Pools | None,
    cells: Sequence[str],
    candidates: Sequence[str],
    nodes: int,
    operations: Sequence[str],
    middle_scales: Sequence[int],
    bottleneck_stride: int | None = None,
    residual: bool = False,
) -> AdnasDetector:
    """Build a detector that trains its reconstruction branches.

    Args:
        fusion: genotype, ``"supernet"`` or ``"concatenation"``.
        branch: arguments of each ``ReconstructionBranch``.
        width: channels of the fusion network.
        size: height and width of the fusion network.
        hidden: channels of the head.
        as_published: the head ends with normalisation and LeakyReLU, and the focal loss stands
            alone.
        modalities, pools, cells, candidates, nodes, operations, middle_scales: of the named
            builders.
        bottleneck_stride: of each branch.
        residual: whether the fusion may read what a restoration changed.
    """
    pools = pools or reconstruction_pools(
        modalities,
        **branch,
        middle_scales=middle_scales,
        bottleneck_stride=bottleneck_stride,
        residual=residual,
    )
    pools = pools.only(*cells).matching(candidates)
    return AdnasDetector(
        source=ReconstructedFeatures(
            branches={
                m: ReconstructionBranch(**branch, bottleneck_stride=bottleneck_stride)
                for m in modalities
            }
        ),
        fusion=make_fusion(
            pools, fusion, width=width, size=size, nodes=nodes, operations=operations
        ),
        head=SegmentationHead(channels=width, hidden=hidden, final_activation=as_published),
        loss="focal" if as_published else "object",
    )


@register(
    "detector",
    size="base",
    pools=partial(reconstruction_pools, **PAPER_BRANCH),
    method="3D-ADNAS",
    scale="width 128",
)
def adnas_paper(
    fusion: Genotype | str = "supernet",
    *,
    modalities: Sequence[str] = MODALITIES,
    pools: Pools | None = None,
    cells: Sequence[str] = CELLS,
    candidates: Sequence[str] = EVERY,
    nodes: int = 2,
    operations: Sequence[str] = tuple(OPERATIONS),
    middle_scales: Sequence[int] = MIDDLE_SCALES,
    image_size: int = 256,
) -> AdnasDetector:
    """3D-ADNAS as published: two branches of width 128 at 256 pixels, trained from scratch."""
    return _from_scratch(
        fusion,
        branch=PAPER_BRANCH,
        width=128,
        size=image_size,
        hidden=(512, 256),
        as_published=True,
        modalities=modalities,
        pools=pools,
        cells=cells,
        candidates=candidates,
        nodes=nodes,
        operations=operations,
        middle_scales=middle_scales,
    )


@register(
    "detector",
    pools=partial(reconstruction_pools, **SLIM_BRANCH),
    method="3D-ADNAS",
    scale="width 16",
)
def adnas_slim(
    fusion: Genotype | str = "supernet",
    *,
    modalities: Sequence[str] = MODALITIES,
    pools: Pools | None = None,
    cells: Sequence[str] = CELLS,
    candidates: Sequence[str] = EVERY,
    nodes: int = 2,
    operations: Sequence[str] = tuple(OPERATIONS),
    middle_scales: Sequence[int] = MIDDLE_SCALES,
    bottleneck_stride: int = 32,
    residual: bool = False,
    image_size: int = 256,
) -> AdnasDetector:
    """The published method from scratch at a width that two processor cores can train.

    The defaults of ``bottleneck_stride`` and ``residual`` are those of models that were saved
    without them; a run's settings have others.
    """
    return _from_scratch(
        fusion,
        branch=SLIM_BRANCH,
        width=32,
        size=image_size // 4,
        hidden=(128, 64),
        as_published=False,
        modalities=modalities,
        pools=pools,
        cells=cells,
        candidates=candidates,
        nodes=nodes,
        operations=operations,
        middle_scales=middle_scales,
        bottleneck_stride=bottleneck_stride,
        residual=residual,
    )


@register("detector", pools=frozen_pools, method="3D-ADNAS", scale="frozen features")
def adnas_light(
    fusion: Genotype | str = "supernet",
    *,
    modalities: Sequence[str] = MODALITIES,
    pools: Pools | None = None,
    cells: Sequence[str] = CELLS,
    candidates: Sequence[str] = EVERY,
    nodes: int = 2,
    operations: Sequence[str] = tuple(OPERATIONS),
    image_size: int = 256,
    memory_entries: int = 4_000,
    evidence: Sequence[str] = (MEMORY,),
    score_evidence: Sequence[str] = (),
    score_distance: str = RELATIVE_DISTANCE,
    backbone: str = DEFAULT_BACKBONE,
    pretrained: bool = True,
) -> AdnasDetector:
    """The default on a processor: searched fusion of frozen features and their normality.

    A deliberate departure from the paper: search space, head, losses and synthetic anomalies are
    the paper's, but gradients train fusion and head only. The defaults of ``evidence``,
    ``score_evidence``, ``score_distance`` and ``backbone`` are those of models that were saved
    without them; a run's settings may have others.
    """
    # Cells are point-wise, so a genotype searched at half the size is valid at the full size.
    size = image_size // (8 if fusion in ("supernet", "one_shot") else 4)
    pools = pools or frozen_pools(modalities, evidence=evidence, backbone=backbone)
    pools = pools.only(*cells).matching(candidates)
    features = make_backbone(backbone, pretrained=pretrained)
    stride = cell_stride(features.channels)
    return AdnasDetector(
        source=NormalityFeatures(
            backbone=features,
            memories={
                m: NormalMemory(
                    channels=features.channels, memory_entries=memory_entries, stride=stride
                )
                for m in modalities
            },
            evidence=_further_evidence(
                chosen_evidence((*evidence, *score_evidence), modalities),
                modalities=tuple(modalities),
                channels=features.channels,
                memory_entries=memory_entries,
            ),
        ),
        fusion=make_fusion(pools, fusion, width=32, size=size, nodes=nodes, operations=operations),
        head=SegmentationHead(channels=32, hidden=(128, 64), final_activation=False),
        score_distance=score_distance,
    )


def _further_evidence(
    kinds: Sequence[str],
    *,
    modalities: tuple[str, ...],
    channels: Mapping[int, int],
    memory_entries: int,
) -> dict[str, Evidence]:
    """Build the evidence of some kinds, beside that of the memories themselves."""
    builders: dict[str, Callable[[], Evidence]] = {
        "crossmodal": lambda: CrossmodalError(channels=channels),
        "scaled_distance": lambda: ScaledDistance(channels=channels, sensors=modalities),
        "agreement": lambda: Agreement(sensors=modalities),
        "fpfh": lambda: FpfhDistance(stride=cell_stride(channels), memory_entries=memory_entries),
    }
    return {kind: builders[kind]() for kind in kinds if kind != MEMORY}
