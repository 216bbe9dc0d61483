"""Start a derived network with the weights that its relaxed one has learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chiasm.fusion.network import FusionNetwork


@torch.no_grad()
def warm_start(network: nn.Module, relaxed: nn.Module) -> frozenset[str]:
    """Copy the weights and statistics of a relaxed network to a derived one, in place.

    Weights of a ``FusionNetwork`` within the network come from the chosen candidates and operations
    of the supernet at the same place, all others from those of the same name. A weight of another
    shape, or that the relaxed network lacks (of a fusion made by hand), keeps its start.

    Args:
        network: with a derived fusion.
        relaxed: built alike, with a ``FusionSupernet`` in its place.

    Returns:
        The names of the weights that were copied.
    """
    fusions = {
        place: module
        for place, module in network.named_modules()
        if isinstance(module, FusionNetwork)
    }
    learned = relaxed.state_dict()
    copied = set()
    for name, weight in network.state_dict().items():
        source: Tensor | None = learned.get(_relaxed_name(name, fusions))
        if source is not None and source.shape == weight.shape:
            weight.copy_(source)
            copied.add(name)
    return frozenset(copied)


def _relaxed_name(name: str, fusions: dict[str, FusionNetwork]) -> str:
    for place, fusion in fusions.items():
        prefix = f"{place}." if place else ""
        if name.startswith(prefix):
            return prefix + fusion.relaxed_name(name.removeprefix(prefix))
    return name
