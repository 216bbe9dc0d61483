"""One network that holds the weights of every architecture; each pass takes one of them.

References:
    Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from chiasm.fusion.cell import CellOutput, join_layers
from chiasm.fusion.genotype import CellGenotype, Genotype, concatenation
from chiasm.fusion.network import FusionNetwork
from chiasm.fusion.operations import OPERATIONS, make_operation
from chiasm.fusion.pools import Pools, cell_output
from chiasm.fusion.projection import Projections, resize

_JOIN = "join"  # of the projections that cells without nodes share


class OneShotFusion(nn.Module):
    """Shared weights of all architectures of a space.

    Two architectures share a projection where the same cell reads the same feature, and an
    operation where it stands at the same node. Cells without nodes share one convolution, of which
    an architecture takes the columns of its inputs.

    Args:
        pools: the candidates.
        width: channels C that all cells share.
        size: height and width S that all cells share.
        nodes: intermediate nodes K per cell that has any.
        operations: names of the operations to choose from.

    Attributes:
        path: the architecture that a pass takes; at first the hand-made concatenation.
    """

    def __init__(
        self,
        pools: Pools,
        *,
        width: int,
        size: int,
        nodes: int = 2,
        operations: Sequence[str] = tuple(OPERATIONS),
    ) -> None:
        super().__init__()
        self.pools = pools
        self.width, self.size = width, size
        self.nodes = nodes
        self.names = tuple(operations)
        self.path = concatenation(pools)
        projections = {
            cell: Projections(pools.features_of(cell), width=width) for cell in pools.present
        } | {_JOIN: Projections(pools.maps().values(), width=width)}
        # torch types the values of a ModuleDict as plain modules.
        self.projections: Mapping[str, Projections] = nn.ModuleDict(projections)  # type: ignore[assignment]
        self.operations = nn.ModuleDict(
            {
                cell: nn.ModuleList(
                    nn.ModuleDict({name: make_operation(name, width) for name in operations})
                    for _ in range(nodes)
                )
                for cell in pools.present
            }
        )
        self.outputs = nn.ModuleDict(
            {cell: CellOutput(width=width, nodes=nodes) for cell in pools.present}
        )
        self.joinable = pools.joinable(pools.present[-1])
        self.mix = join_layers(count=len(self.joinable), width=width)

    @property
    def required(self) -> frozenset[str]:
        """All features, so that every architecture can be run on the same batches."""
        return frozenset(self.pools.maps())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse feature maps by name into ``(N, C, S, S)`` along ``path``."""
        values: dict[str, Tensor] = {}
        for name in self.path.reachable():
            cell = self.path.cells[name]
            projections = self.projections[_JOIN if cell.joins else name]
            inputs = [
                values[chosen]
                if chosen in values
                else resize(projections.project(chosen, features), self.size)
                for chosen in cell.inputs
            ]
            fused = self._joined(cell, inputs) if cell.joins else self._fused(name, cell, inputs)
            values[cell_output(name)] = fused
        return values[cell_output(self.path.output)]

    def _fused(self, name: str, cell: CellGenotype, inputs: Sequence[Tensor]) -> Tensor:
        values = dict(zip(("x", "y"), inputs))
        results = []
        for number, node in enumerate(cell.nodes):
            operation = self.operations[name][number][node.operation]  # type: ignore[index]
            results.append(operation(*(values[chosen] for chosen in node.inputs)))
            values[f"node:{number}"] = results[-1]
        out: Tensor = self.outputs[name](results, inputs[0])
        return out

    def _joined(self, cell: CellGenotype, inputs: Sequence[Tensor]) -> Tensor:
        out = F.conv2d(torch.cat(list(inputs), dim=1), self._columns(cell))
        for layer in list(self.mix)[1:]:
            out = layer(out)
        return out

    def _columns(self, cell: CellGenotype) -> Tensor:
        """Return the weights ``(C, k C, 1, 1)`` of the inputs of a cell without nodes."""
        (weight,) = self.mix[0].parameters()
        numbers = [self.joinable.index(chosen) for chosen in cell.inputs]
        return weight.unflatten(1, (-1, self.width))[:, numbers].flatten(1, 2)

    def weights_of(self, network: FusionNetwork) -> dict[str, Tensor]:
        """Return by name the weights and statistics that a derived network would start with."""
        stored = self.state_dict()
        weights = {}
        for name in network.state_dict():
            kind, cell, *rest = name.split(".")
            parts = network.genotype.cells[cell]
            if kind == "projections":
                source = ".".join(("projections", _JOIN if parts.joins else cell, *rest))
            elif parts.joins:
                source = ".".join(rest)
            elif rest[0] == "output":
                source = ".".join(("outputs", cell, *rest[1:]))
            else:
                operation = parts.nodes[int(rest[1])].operation
                source = ".".join(("operations", cell, rest[1], operation, *rest[2:]))
            weights[name] = self._columns(parts) if source == "mix.0.weight" else stored[source]
        return weights


@contextmanager
def taking(fusion: OneShotFusion, path: Genotype) -> Iterator[None]:
    """Let passes take an architecture; ``GenotypeError`` where it does not fit the pools."""
    path.validate(fusion.pools)
    former = fusion.path
    fusion.path = path
    try:
        yield
    finally:
        fusion.path = former


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms take the statistics of each batch, and leave the running ones alone.

    The running statistics of shared weights are those of no architecture in particular.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    former = [(norm.training, norm.momentum) for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.momentum = True, 0.0
            norm.num_batches_tracked = None
        yield
    finally:
        for norm, (training, momentum), count in zip(norms, former, counts):
            norm.training, norm.momentum = training, momentum
            norm.num_batches_tracked = count
