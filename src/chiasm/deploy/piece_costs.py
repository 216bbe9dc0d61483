"""Milliseconds and megabytes of pieces of exported networks, measured on this machine."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from chiasm.deploy.graph_attention import GraphAttention
from chiasm.deploy.graph_files import write_onnx, write_openvino
from chiasm.deploy.norms import fold_batch_norms
from chiasm.fusion.cell import CellOutput, JoinCell
from chiasm.fusion.costs import Cost
from chiasm.fusion.evidence_units import Called, EvidenceUnit
from chiasm.fusion.operations import GuidedAttention, make_operation
from chiasm.fusion.pools import Pools
from chiasm.fusion.projection import Projection, resize
from chiasm.runs.console import say
from chiasm.runtime.engine import open_engine, processor_threads
from chiasm.training.progress import Progress

_SECONDS, _FEWEST, _MOST = 0.25, 5, 60  # of the runs of a piece
_JOINED = 8  # inputs of the join that is timed


def measure_pieces(pieces: Sequence[EvidenceUnit], *, any_count: bool = True) -> dict[str, Cost]:
    """Measure what pieces cost in the exported runtime, one sample at a time.

    Each is compiled by itself and timed on all processor threads. The shortest of several runs
    counts, which other work on the machine disturbs least; the time of a graph that does nothing is
    subtracted. Of ``join``, a convolution of several inputs, it is the cost of one input.

    Args:
        pieces: by name, with inputs of two samples; one within others stands behind them.
        any_count: whether the exported model takes any number of samples, or one at a time.
    """
    threads = processor_threads()
    costs: dict[str, Cost] = {}
    measured: dict[str, Cost] = {}  # both sensors have pieces that are alike
    say("Measuring what each piece of the exported model costs on this machine ...")
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress("Measuring costs", len(pieces), unit="pieces") as progress,
    ):
        measure = partial(_measure, folder=Path(folder), threads=threads, any_count=any_count)
        empty = measure(nn.ReLU(), (torch.rand(2, 1, 8, 8),))
        for piece in pieces:
            shapes = [tuple(value.shape) for value in piece.inputs]
            alike = f"{piece.network} {piece.within is None} {shapes}"
            if piece.within is not None:
                alike += piece.name.partition("/")[2]
            if alike not in measured:
                measured[alike] = measure(piece.network, piece.inputs)
            before = Cost(empty.milliseconds, 0.0)
            for inner in _chain(piece.within, pieces):
                before = before + costs[inner]
            whole = measured[alike]
            costs[piece.name] = Cost(
                max(0.0, whole.milliseconds - before.milliseconds),
                max(0.0, whole.megabytes - before.megabytes),
            )
            progress.update(1)
    joined = costs["join"]
    return costs | {"join": Cost(joined.milliseconds / _JOINED, joined.megabytes / _JOINED)}


def fusion_pieces(
    pools: Pools,
    maps: Mapping[str, Tensor],
    *,
    width: int,
    size: int,
    nodes: int,
    operations: Iterable[str],
    prepared: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Iterator[EvidenceUnit]:
    """Return the pieces that architectures are made of, see ``chiasm.fusion.costs.pieces_of``.

    Args:
        pools: the candidates.
        maps: of all of them, for two samples.
        width, size: C and S that all cells share.
        nodes: intermediate nodes of a cell that has any.
        operations: names of those that cells may use.
        prepared: changes each piece as the wing changes its fusion.
    """
    for name, candidate in (pools.maps() | pools.features).items():
        projection = prepared(Projection(candidate, width=width))
        projected = _projected(tuple(part.name for part in candidate.maps), size)
        inputs = tuple(maps[part.name] for part in candidate.maps)
        yield EvidenceUnit(f"project:{name}", Called(projection, projected), inputs)
    fused = torch.rand(2, width, size, size)
    for name in operations:
        operation = prepared(make_operation(name, width))
        if isinstance(operation, GuidedAttention):
            operation = GraphAttention(operation)
        yield EvidenceUnit(f"operation:{name}", operation, (fused, fused))
    output = prepared(CellOutput(width=width, nodes=nodes))
    ended = Called(output, lambda cell, *values: cell(values[:-1], values[-1]))
    yield EvidenceUnit("output", ended, (fused,) * (nodes + 1))
    yield EvidenceUnit("join", prepared(JoinCell(count=_JOINED, width=width)), (fused,) * _JOINED)


def _chain(name: str | None, pieces: Sequence[EvidenceUnit]) -> list[str]:
    """Return a unit and those within it; none for None."""
    inner = {piece.name: piece.within for piece in pieces}
    chain = []
    while name is not None:
        chain.append(name)
        name = inner[name]
    return chain


def _projected(names: Sequence[str], size: int) -> Callable[..., Tensor]:
    def project(projection: nn.Module, *maps: Tensor) -> Tensor:
        return resize(projection(dict(zip(names, maps))), size)

    return project


def _measure(
    network: nn.Module, inputs: Sequence[Tensor], *, folder: Path, threads: int, any_count: bool
) -> Cost:
    """Compile a piece and time it for one sample."""
    if not any_count:
        inputs = [value[:1] for value in inputs]
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
        dynamic=[{0: torch.export.Dim("batch")} if any_count else {}] * len(inputs),
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
