"""Milliseconds and megabytes of the pieces of exported detectors, measured on this machine."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from chiasm.deploy.detection_graph import GraphMemory, fold_batch_norms
from chiasm.deploy.graph_attention import GraphAttention
from chiasm.deploy.graph_files import write_onnx, write_openvino
from chiasm.deploy.map_products import MapProducts
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.evidence.units import Called
from chiasm.detection.models.adnas import AdnasDetector, DetectorOutput
from chiasm.detection.preparation.batch import to_batch
from chiasm.fusion.cell import CellOutput, JoinCell
from chiasm.fusion.costs import BASE, Cost, PieceCosts
from chiasm.fusion.genotype import concatenation
from chiasm.fusion.network import FusionNetwork
from chiasm.fusion.operations import OPERATIONS, GuidedAttention, make_operation
from chiasm.fusion.projection import Projection, resize
from chiasm.runtime.engine import open_engine, processor_threads
from chiasm.samples import RGBDBatch
from chiasm.training.progress import Progress

_SECONDS, _FEWEST, _MOST = 0.25, 5, 60  # of the runs of a piece
_JOINED = 8  # inputs of the join that is timed

Piece = tuple[str, nn.Module, tuple[Tensor, ...], str | None]


def measure_costs(detector: AdnasDetector, data: DetectionDataModule) -> PieceCosts:
    """Measure what the pieces of a detector cost in the exported runtime, one part at a time.

    Each piece is compiled by itself and timed on all processor threads, on a calibration part. The
    shortest of several runs counts, which other work on the machine disturbs least; the time of a
    graph that does nothing is subtracted.

    Args:
        detector: whose source has its memories.
        data: of the run.
    """
    # Exported models run on the processor, and so do their pieces.
    source = copy.deepcopy(detector.source).cpu().eval()
    if detector.frozen_source is not None:
        source.memories = nn.ModuleDict(
            {name: GraphMemory(memory) for name, memory in source.memories.items()}
        )
    parts = (list(data.calibration[:2]) * 2)[:2]
    batch = to_batch(parts, data.geometry, modalities=data.config.modalities)
    final = copy.deepcopy(data.detector(concatenation(data.pools))).cpu().eval()
    pieces = list(_pieces(source, final, batch, data))
    threads = processor_threads()
    costs: dict[str, Cost] = {}
    measured: dict[str, Cost] = {}  # both sensors have pieces that are alike
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress("Measuring costs", len(pieces), unit="pieces") as progress,
    ):
        empty = _measure(nn.ReLU(), (batch.foreground[:, :, :8, :8],), Path(folder), threads)
        for name, network, inputs, within in pieces:
            alike = f"{network} {within is None} {[tuple(value.shape) for value in inputs]}"
            if within is not None:
                alike += name.partition("/")[2]
            if alike not in measured:
                measured[alike] = _measure(network, inputs, Path(folder), threads)
            before = Cost(empty.milliseconds, 0.0)
            for inner in _chain(within, pieces):
                before = before + costs[inner]
            whole = measured[alike]
            costs[name] = Cost(
                max(0.0, whole.milliseconds - before.milliseconds),
                max(0.0, whole.megabytes - before.megabytes),
            )
            progress.update(1)
    joined = costs["join"]
    costs["join"] = Cost(joined.milliseconds / _JOINED, joined.megabytes / _JOINED)
    return PieceCosts(
        costs,
        detector.source.units,
        {"runtime": "openvino fp32", "threads": threads, "image_size": data.config.image_size},
    )


def _chain(name: str | None, pieces: Sequence[Piece]) -> list[str]:
    """Return a unit and those within it; none for None."""
    inner = {piece[0]: piece[3] for piece in pieces}
    chain = []
    while name is not None:
        chain.append(name)
        name = inner[name]
    return chain


def _pieces(
    source: nn.Module, final: AdnasDetector, batch: RGBDBatch, data: DetectionDataModule
) -> Iterator[Piece]:
    for unit in source.evidence_units(batch):  # type: ignore[operator]
        yield unit.name, unit.network, unit.inputs, unit.within
    fusion = final.fusion
    assert isinstance(fusion, FusionNetwork)
    size, width = fusion.size, fusion.width
    with torch.no_grad():
        maps = final.source(batch).maps
    for name, candidate in (data.pools.maps() | data.pools.features).items():
        projection = Projection(candidate, width=width)
        projected = _projected(projection.names, size)
        inputs = tuple(maps[part.name] for part in candidate.maps)
        yield f"project:{name}", Called(projection, projected), inputs, None
    fused = torch.rand(len(batch.foreground), width, size, size)
    for name in OPERATIONS:
        operation = make_operation(name, width)
        if isinstance(operation, GuidedAttention):
            operation = GraphAttention(operation)
        yield f"operation:{name}", operation, (fused, fused), None
    nodes = data.config.nodes
    output = CellOutput(width=width, nodes=nodes)
    ended = Called(output, lambda cell, *values: cell(values[:-1], values[-1]))
    yield "output", ended, (fused,) * (nodes + 1), None
    yield "join", JoinCell(count=_JOINED, width=width), (fused,) * _JOINED, None
    final.maps = MapProducts()  # type: ignore[assignment]  # has the same methods, no type
    head = Scored(final)
    yield BASE, head, (fused, batch.foreground), None


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


def _projected(names: Sequence[str], size: int) -> Callable[..., Tensor]:
    def project(projection: nn.Module, *maps: Tensor) -> Tensor:
        return resize(projection(dict(zip(names, maps))), size)

    return project


def _measure(network: nn.Module, inputs: Sequence[Tensor], folder: Path, threads: int) -> Cost:
    """Compile a piece and time it for one part."""
    network = copy.deepcopy(network).eval()
    fold_batch_norms(network)
    if not isinstance(network, Called):  # the exporter wants any number of inputs
        network = Called(network, lambda layer, *values: layer(*values))
    names = [f"input{number}" for number in range(len(inputs))]
    with torch.no_grad():
        answer = network(*inputs)
    outputs = [f"output{n}" for n in range(1 if isinstance(answer, Tensor) else len(answer))]
    path = folder / "piece.onnx"
    write_onnx(
        network,
        inputs,
        path,
        inputs=names,
        outputs=outputs,
        dynamic=[{0: torch.export.Dim("batch")}] * len(inputs),
    )
    compiled = path.with_suffix(".xml")
    write_openvino(path, compiled)
    engine = open_engine(compiled, threads=threads)
    arrays = {name: value[:1].numpy() for name, value in zip(names, inputs)}
    seconds: list[float] = []
    for _ in range(2):
        engine.run(arrays)
    while len(seconds) < _FEWEST or (sum(seconds) < _SECONDS and len(seconds) < _MOST):
        started = time.perf_counter()
        engine.run(arrays)
        seconds.append(time.perf_counter() - started)
    weights = compiled.with_suffix(".bin").stat().st_size
    return Cost(1000 * min(seconds), weights / 1e6)
