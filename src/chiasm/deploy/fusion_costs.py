"""What the pieces of exported detectors and classifiers cost on this machine."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from chiasm.deploy.detection_graph import GraphMemory
from chiasm.deploy.map_products import MapProducts
from chiasm.deploy.piece_costs import fusion_pieces, measure_pieces
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.models.adnas import AdnasDetector, DetectorOutput
from chiasm.detection.preparation.batch import to_batch
from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.fusion.costs import BASE, PieceCosts
from chiasm.fusion.evidence_units import Called, EvidenceUnit
from chiasm.fusion.genotype import concatenation
from chiasm.fusion.make import normed_by_sample
from chiasm.fusion.network import FusionNetwork
from chiasm.fusion.one_shot import OneShotFusion
from chiasm.runtime.engine import processor_threads
from chiasm.samples import RecordingBatch

RUNTIME = "openvino fp32"


def measure_costs(detector: AdnasDetector, data: DetectionDataModule) -> PieceCosts:
    """Measure what the pieces of a detector cost in the exported runtime, one part at a time.

    Args:
        detector: whose source has its memories.
        data: of the run; two calibration parts are the example.
    """
    # Exported models run on the processor, and so do their pieces.
    copied = copy.deepcopy(detector).cpu().eval()
    source, frozen = copied.source, copied.frozen_source
    if frozen is not None:
        source.memories = nn.ModuleDict(
            {name: GraphMemory(memory) for name, memory in frozen.memories.items()}
        )
    parts = (list(data.calibration[:2]) * 2)[:2]
    batch = to_batch(parts, data.geometry, modalities=data.config.modalities)
    final = copy.deepcopy(data.detector(concatenation(data.pools))).cpu().eval()
    fusion = final.fusion
    assert isinstance(fusion, FusionNetwork)
    with torch.no_grad():
        maps = final.source(batch).maps
    pieces: list[EvidenceUnit] = [
        *source.evidence_units(batch),
        *fusion_pieces(
            data.pools,
            maps,
            width=fusion.width,
            size=fusion.size,
            nodes=data.config.nodes,
            operations=data.config.operations,
        ),
    ]
    fused = torch.rand(len(batch.foreground), fusion.width, fusion.size, fusion.size)
    final.maps = MapProducts()  # type: ignore[assignment]  # has the same methods, no type
    pieces.append(EvidenceUnit(BASE, Scored(final), (fused, batch.foreground)))
    return PieceCosts(
        measure_pieces(pieces),
        detector.source.units,
        _facts() | {"image_size": data.config.image_size},
    )


class Scored(nn.Module):
    """What comes after the fusion: head, map and score of the image."""

    def __init__(self, detector: AdnasDetector) -> None:
        super().__init__()
        self.head = detector.head
        self._detector = (detector,)  # no submodule: its source is no part of this piece

    def forward(self, fused: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and scores of fused features ``(N, C, S, S)``."""
        (detector,) = self._detector
        output = DetectorOutput(self.head(fused))
        maps = detector.scores(output, foreground)
        return maps, detector.image_scores(output, maps, foreground)


def measure_classifier_costs(network: FusedClassifier, data: DiagnosisDataModule) -> PieceCosts:
    """Measure what the pieces of a classifier cost in the exported runtime, a recording at a time.

    Args:
        network: of all architectures (``one_shot``).
        data: of the run; two random recordings of the longest form are the example.
    """
    network = copy.deepcopy(network).cpu()  # exported models run on the processor
    fusion = network.fusion
    assert isinstance(fusion, OneShotFusion)
    zeros = network.example_batch(2)
    batch = RecordingBatch(
        image=None if zeros.image is None else torch.rand_like(zeros.image),
        series=None if zeros.series is None else torch.rand_like(zeros.series),
    )
    source = network.source.eval()
    with torch.no_grad():
        maps = source(batch, fusion.required, density=False).maps
    width, size = fusion.width, fusion.size
    fused = torch.rand(2, width, size, size)
    pieces = [
        *source.evidence_units(batch),
        *fusion_pieces(
            fusion.pools,
            maps,
            width=width,
            size=size,
            nodes=fusion.nodes,
            operations=fusion.names,
            prepared=normed_by_sample,
        ),
        EvidenceUnit(
            BASE,
            Called(network.head, lambda head, value: head(value.mean(dim=(2, 3)))),
            (fused,),
        ),
    ]
    form = {"image_size": data.config.image_size, "seconds": data.config.seconds}
    return PieceCosts(measure_pieces(pieces, any_count=False), source.units, _facts() | form)


def _facts() -> dict[str, object]:
    return {"runtime": RUNTIME, "threads": processor_threads()}
