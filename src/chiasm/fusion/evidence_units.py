"""Parts of a source of features that cost something, each to be measured by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceUnit:
    """What has to be computed for some maps.

    Attributes:
        name: as ``units`` of the source gives it.
        network: computes it from ``inputs``; its weights and memories count as megabytes.
        inputs: of an example batch.
        within: unit whose work the network repeats, and whose cost is subtracted; None for none.
    """

    name: str
    network: nn.Module
    inputs: tuple[Tensor, ...]
    within: str | None = None


class Called(nn.Module):
    """A network that is called in some way, as a module of its own.

    Args:
        network: whose weights are used.
        call: computes a tensor, or a tuple of them, from the network and tensors.
    """

    def __init__(
        self, network: nn.Module, call: Callable[..., Tensor | tuple[Tensor, ...]]
    ) -> None:
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Call the network."""
        return self.call(self.network, *inputs)
