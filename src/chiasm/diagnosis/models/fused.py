"""A searched fusion of MAD's and a convolutional network's features of picture and series.

Beyond both papers: the two-level search space of 3D-ADNAS over the features of MAD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from chiasm.diagnosis.classifier import MODALITIES, Classifier, ClassifierOutput
from chiasm.diagnosis.layers.coupling_flow import Flow
from chiasm.diagnosis.layers.expert_encoder import Gate
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.recording_features import RecordingFeatures
from chiasm.diagnosis.layers.recording_parts import recording_features, recording_pools
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.make import AnyFusion, make_fusion, normed_by_sample
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import CELLS
from chiasm.registry import register
from chiasm.samples import RecordingBatch


class FusedClassifier(Classifier):
    """Candidate features, a fusion network, the mean of its map, and two heads.

    The features of an absent modality are zeros, which the fusion's projections map to learned
    constants; modality dropout trains them.

    Args:
        source: computes the features.
        fusion: supernet, derived network or hand-made fusion, normed by sample.
        example: modality to the shape of a standard recording, without the first axis.
        projection: for the contrast of the first stage.
        head: for the classes.
    """

    def __init__(
        self,
        *,
        source: RecordingFeatures,
        fusion: AnyFusion,
        example: Mapping[str, tuple[int, ...]],
        projection: ProjectionHead,
        head: ClassHead,
    ) -> None:
        super().__init__()
        self.modalities = source.modalities
        self.source = source
        self.fusion = fusion
        self.example = dict(example)
        self.projection = projection
        self.head = head

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify a batch; ``density`` as in ``Mad``.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        features = self.source(batch, self.fusion.required, density=density)
        pooled = self.fusion(features.maps).mean(dim=(2, 3))  # (N, C)
        return ClassifierOutput(
            logits=self.head(pooled),
            pooled=pooled,
            embedded=features.embedded,
            aligned=features.aligned,
            log_det=features.log_det,
            flow_nll=features.flow_nll,
            gates=features.gates,
        )

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Return unit vectors ``(N, 1, P)`` of the fused embedding; ``parts`` are ignored."""
        out: Tensor = self.projection(output.pooled[:, None])
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shapes of standard recordings, on the network's device."""
        weight = self.head.linear.weight
        zeros = {m: weight.new_zeros(count, *shape) for m, shape in self.example.items()}
        return RecordingBatch(image=zeros.get("image"), series=zeros.get("series"))


@register("classifier", fuses="mad_small")
def fused_small(
    fusion: Genotype | str = "supernet",
    *,
    modalities: Sequence[str] = MODALITIES,
    cells: Sequence[str] = CELLS,
    candidates: Sequence[str] = ("*",),
    nodes: int = 2,
    operations: Sequence[str] = tuple(OPERATIONS),
    flow: Flow = "coupling",
    gate: Gate = "softmax",
    experts: int = 2,
    segment: int = 256,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
    samples_per_cycle: int = 128,
) -> FusedClassifier:
    """Searched fusion of MAD's and a convolutional network's features; no larger than mad_small."""
    stages = (32, 64, 128)
    pools = recording_pools(width=128, stages=stages, classes=classes, modalities=modalities)
    pools = pools.only(*cells).matching(candidates)
    size = 8
    network = make_fusion(pools, fusion, width=64, size=size, nodes=nodes, operations=operations)
    return FusedClassifier(
        source=recording_features(
            network.required,
            pools_channels={name: c.channels for name, c in pools.maps().items()},
            channels={m: {"image": 3, "series": channels}[m] for m in modalities},
            classes=classes,
            width=128,
            flow_hidden=224,
            expert_hidden=256,
            stem=16,
            stages=stages,
            flow=flow,
            gate=gate,
            experts=experts,
            segment=segment,
            image_size=image_size,
            series_length=series_length,
            cycle=samples_per_cycle,
            size=size,
        ),
        fusion=normed_by_sample(network),
        example={
            m: {"image": (3, image_size, image_size), "series": (channels, series_length)}[m]
            for m in modalities
        },
        projection=ProjectionHead(width=64, hidden=64, out=64),
        head=ClassHead(width=64, classes=classes),
    )
