"""The two-level fusion network: relaxed for the search, derived from a genotype for use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from chiasm.fusion.cell import (
    DerivedCell,
    JoinCell,
    RelaxedCell,
    architecture_parameter,
    draw_pair,
    entropy,
    ordered_pair,
)
from chiasm.fusion.genotype import CellGenotype, Genotype
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import Pools, cell_output
from chiasm.fusion.projection import Projections, resize
from chiasm.fusion.recomputation import run_layer


class FusionSupernet(nn.Module):
    """Every architecture of the space at once, weighted by softmax.

    Architecture parameters per cell: ``outer`` of shape (2, candidates), and those of its relaxed
    cell. For the paper's pools and two nodes these are 96 scalars in all.

    Args:
        pools: the candidates.
        width: channels C that all cells share.
        size: height and width S that all cells share.
        nodes: intermediate nodes K per cell.
        operations: names of the operations to choose from.
        seed: of the architecture parameters.

    Attributes:
        recompute: whether activations are computed again for the gradients, see ``run_layer``.

    References:
        3D-ADNAS, Equations 4-6; Liu et al., DARTS, ICLR 2019; Yin et al., BM-NAS, AAAI 2022.
    """

    def __init__(
        self,
        pools: Pools,
        *,
        width: int,
        size: int,
        nodes: int = 2,
        operations: Sequence[str] = tuple(OPERATIONS),
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.pools = pools
        self.width, self.size = width, size
        projections = {
            cell: Projections(pools.features_of(cell), width=width) for cell in pools.present
        }
        # torch types the values of a ModuleDict as plain modules.
        self.projections: Mapping[str, Projections] = nn.ModuleDict(projections)  # type: ignore[assignment]
        self.outer = nn.ParameterDict(
            {
                cell: architecture_parameter(2, len(pools.candidates(cell)), generator=generator)
                for cell in pools.present
            }
        )
        cells = {
            cell: RelaxedCell(width=width, nodes=nodes, operations=operations, generator=generator)
            for cell in pools.present
        }
        self.cells: Mapping[str, RelaxedCell] = nn.ModuleDict(cells)  # type: ignore[assignment]
        self.recompute = False

    @property
    def required(self) -> frozenset[str]:
        """All features: every one has a weight."""
        return frozenset(self.pools.maps())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse feature maps by name into ``(N, C, S, S)``."""
        outputs: dict[str, Tensor] = {}
        for cell in self.pools.present:
            x, y = run_layer(
                self.projections[cell],
                cell,
                features,
                dict(outputs),
                recompute=self.recompute,
                call=self._inputs,
            )
            outputs[cell_output(cell)] = run_layer(self.cells[cell], x, y, recompute=self.recompute)
        return outputs[cell_output(self.pools.present[-1])]

    def _inputs(
        self, cell: str, features: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute both relaxed inputs; maps of one size are summed and then resized once.

        Resizing is linear, so that the order affects the time only.
        """
        weights = self.outer[cell].softmax(dim=1)  # (2, candidates)
        sums: dict[tuple[int, ...], list[Tensor]] = {}
        for number, name in enumerate(self.pools.candidates(cell)):
            value = (
                outputs[name] if name in outputs else self.projections[cell].project(name, features)
            )
            pair = sums.setdefault(tuple(value.shape[-2:]), [])
            for side in (0, 1):
                term = weights[side, number] * value
                if len(pair) <= side:
                    pair.append(term)
                else:
                    pair[side] = pair[side] + term
        resized = [[resize(x, self.size), resize(y, self.size)] for x, y in sums.values()]
        # Not of a stack: that is another copy of them all, and on a GPU autocast sums in float32.
        x, y = (reduce(torch.add, [pair[side] for pair in resized]) for side in (0, 1))
        return x, y

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the search's outer level."""
        parameters = [self.outer[cell] for cell in self.pools.present]
        for cell in self.pools.present:
            parameters += [*self.cells[cell].inner, *self.cells[cell].operation]
        return parameters

    @torch.no_grad()
    def entropy(self) -> float:
        """Compute the mean entropy in bits of all relaxed choices; it falls during the search."""
        return float(torch.stack([entropy(p) for p in self.architecture_parameters()]).mean())

    @torch.no_grad()
    def genotype(
        self,
        provenance: Mapping[str, Any] | None = None,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Genotype:
        """Return the strongest architecture, or draw one with a generator from the relaxed choices.

        A temperature above 1 flattens the probabilities. Unreachable cells are removed.
        """
        cells = {}
        for cell in self.pools.present:
            names = self.pools.candidates(cell)
            logits = self.outer[cell] / temperature
            j, h = ordered_pair(logits) if generator is None else draw_pair(logits, generator)
            cells[cell] = CellGenotype((names[j], names[h]), self.cells[cell].discretise(generator))
        return Genotype(
            cells=cells,
            output=self.pools.present[-1],
            pools={cell: self.pools.candidates(cell) for cell in self.pools.present},
            provenance=dict(provenance or {}),
        ).pruned()

    def weights_of(self, network: FusionNetwork) -> dict[str, Tensor]:
        """Return by name the weights and statistics that a derived network would start with."""
        stored = self.state_dict()
        weights = {}
        for name in network.state_dict():
            parts = name.split(".")
            if parts[0] == "cells" and parts[2] == "nodes":
                node = network.genotype.cells[parts[1]].nodes[int(parts[3])]
                parts.insert(4, node.operation)
            if (source := ".".join(parts)) in stored:
                weights[name] = stored[source]
        return weights


class FusionNetwork(nn.Module):
    """The network of one genotype, without the parts that do not reach the head.

    Args:
        pools: the candidates, for their channels.
        genotype: the architecture; raises ``GenotypeError`` where it does not fit the pools.
        width: channels C.
        size: height and width S.

    Attributes:
        recompute: whether activations are computed again for the gradients, see ``run_layer``.
    """

    def __init__(self, pools: Pools, genotype: Genotype, *, width: int, size: int) -> None:
        super().__init__()
        genotype.validate(pools)
        self.genotype = genotype.pruned()
        self.required = frozenset(pools.maps(self.genotype.required))
        self.width, self.size = width, size
        self.recompute = False
        features = pools.maps() | pools.features
        # torch types the values of a ModuleDict as plain modules.
        self.projections: dict[str, Projections] = nn.ModuleDict()  # type: ignore[assignment]
        self.cells = nn.ModuleDict()
        for name, cell in self.genotype.cells.items():
            inputs = [i for i in dict.fromkeys(cell.inputs) if i in features]
            self.projections[name] = Projections([features[i] for i in inputs], width=width)
            self.cells[name] = (
                JoinCell(count=len(cell.inputs), width=width)
                if cell.joins
                else DerivedCell(cell, width=width)
            )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse feature maps by name into ``(N, C, S, S)``; only ``required`` maps are read."""
        values: dict[str, Tensor] = {}
        for name, cell in self.genotype.cells.items():
            projections = self.projections[name]
            projected = {
                chosen: values[chosen]
                if chosen in values
                else resize(
                    run_layer(
                        projections,
                        chosen,
                        features,
                        recompute=self.recompute,
                        call=projections.project,
                    ),
                    self.size,
                )
                for chosen in dict.fromkeys(cell.inputs)
            }
            inputs = (projected[chosen] for chosen in cell.inputs)
            values[cell_output(name)] = run_layer(
                self.cells[name], *inputs, recompute=self.recompute
            )
        return values[cell_output(self.genotype.output)]

    @classmethod
    def from_supernet(cls, supernet: FusionSupernet, genotype: Genotype) -> FusionNetwork:
        """Derive the network of a genotype with the supernet's weights."""
        network = cls(supernet.pools, genotype, width=supernet.width, size=supernet.size)
        network.load_state_dict(supernet.weights_of(network))
        return network
