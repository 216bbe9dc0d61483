"""Start a derived network with the weights that its relaxed one has learned."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from chiasm.fusion.network import FusionNetwork


@runtime_checkable
class HasArchitectures(Protocol):
    """A network that holds the weights of every architecture."""

    def weights_of(self, network: FusionNetwork) -> dict[str, Tensor]:
        """Return by name the weights that a derived network would start with."""


@torch.no_grad()
def warm_start(network: nn.Module, relaxed: nn.Module) -> frozenset[str]:
    """Copy the weights and statistics of a relaxed network to a derived one, in place.

    Weights of a ``FusionNetwork`` within the network come from the chosen candidates and operations
    of the network of all architectures at the same place, all others from those of the same name. A
    weight of another shape, or that the relaxed network lacks (of a fusion made by hand), keeps its
    start.

    Args:
        network: with a derived fusion.
        relaxed: built alike, with a network of all architectures in its place.

    Returns:
        The names of the weights that were copied.
    """
    learned = relaxed.state_dict()
    for place, fusion in network.named_modules():
        if isinstance(fusion, FusionNetwork):
            every = relaxed.get_submodule(place)
            assert isinstance(every, HasArchitectures)
            prefix = f"{place}." if place else ""
            learned |= {prefix + name: w for name, w in every.weights_of(fusion).items()}
    copied = set()
    for name, weight in network.state_dict().items():
        source: Tensor | None = learned.get(name)
        if source is not None and source.shape == weight.shape:
            weight.copy_(source)
            copied.add(name)
    return frozenset(copied)
