"""One cell: two inputs, K intermediate nodes, one output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from chiasm.fusion.genotype import CellGenotype, NodeGenotype
from chiasm.fusion.operations import make_operation


class CellOutput(nn.Module):
    """Concat of K nodes, 1x1 conv to C, batch norm, ReLU, plus the first input, group norm."""

    def __init__(self, *, width: int, nodes: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(nodes * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.norm = nn.GroupNorm(1, width)

    def forward(self, nodes: Sequence[Tensor], first_input: Tensor) -> Tensor:
        """Map K nodes ``(N, C, S, S)`` to one output of that shape."""
        mixed = self.mix(torch.cat(list(nodes), dim=1)) + first_input
        out: Tensor = self.norm(mixed).to(mixed.dtype)  # on a GPU autocast has it in float32
        return out


class RelaxedCell(nn.Module):
    """A cell in which every choice is a softmax-weighted sum.

    Per node k: ``inner[k]`` of shape (2, k + 2) weighs the cell's two inputs and earlier nodes for
    each of its two inputs; ``operation[k]`` weighs the operations.

    References:
        3D-ADNAS, Equation 6 and supplement Equations 6-7.
    """

    def __init__(
        self,
        *,
        width: int,
        nodes: int,
        operations: Sequence[str],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(operations)
        self.inner = nn.ParameterList(
            architecture_parameter(2, k + 2, generator=generator) for k in range(nodes)
        )
        self.operation = nn.ParameterList(
            architecture_parameter(len(self.names), generator=generator) for _ in range(nodes)
        )
        # torch types the items of a ModuleList as plain modules.
        self.nodes: Sequence[nn.ModuleDict] = nn.ModuleList(  # type: ignore[assignment]
            nn.ModuleDict({name: make_operation(name, width) for name in self.names})
            for _ in range(nodes)
        )
        self.output = CellOutput(width=width, nodes=nodes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps ``(N, C, S, S)``."""
        values = [x, y]
        for inner, weight, operations in zip(self.inner, self.operation, self.nodes):
            first, second = (
                _sum(w * value for w, value in zip(row, values)) for row in inner.softmax(dim=1)
            )
            mixed = _sum(
                w * operations[name](first, second)
                for w, name in zip(weight.softmax(dim=0), self.names)
            )
            values.append(mixed)
        out: Tensor = self.output(values[2:], x)
        return out

    def discretise(self, generator: torch.Generator | None = None) -> tuple[NodeGenotype, ...]:
        """Return the strongest pair and operation of every node, or draw them with a generator.

        The probabilities are those of the relaxed choices.
        """
        nodes = []
        for k, (inner, weight) in enumerate(zip(self.inner, self.operation)):
            names = ["x", "y", *(f"node:{i}" for i in range(k))]
            if generator is None:
                (j, h), number = ordered_pair(inner), int(weight.argmax())
            else:
                j, h = draw_pair(inner, generator)
                p = weight.detach().softmax(dim=0)
                number = int(torch.multinomial(p.cpu(), 1, generator=generator))
            nodes.append(NodeGenotype((names[j], names[h]), self.names[number]))
        return tuple(nodes)


class DerivedCell(nn.Module):
    """A cell with discrete choices."""

    def __init__(self, genotype: CellGenotype, *, width: int) -> None:
        super().__init__()
        self.inputs = [node.inputs for node in genotype.nodes]
        self.nodes = nn.ModuleList(make_operation(node.operation, width) for node in genotype.nodes)
        self.output = CellOutput(width=width, nodes=len(genotype.nodes))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps ``(N, C, S, S)``."""
        values = {"x": x, "y": y}
        results = []
        for number, (operation, (first, second)) in enumerate(zip(self.nodes, self.inputs)):
            results.append(operation(values[first], values[second]))
            values[f"node:{number}"] = results[-1]
        out: Tensor = self.output(results, x)
        return out


class JoinCell(nn.Module):
    """A cell without nodes: concatenation of its inputs, 1x1 conv to C, batch norm, leaky ReLU.

    Args:
        count: of the inputs.
        width: channels C of each.

    References:
        Chen et al., EasyNet, ACM MM 2023.
    """

    def __init__(self, *, count: int, width: int) -> None:
        super().__init__()
        self.mix = join_layers(count=count, width=width)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Fuse maps ``(N, C, S, S)``."""
        out: Tensor = self.mix(torch.cat(inputs, dim=1))
        return out


def join_layers(*, count: int, width: int) -> nn.Sequential:
    """Make the layers that fuse a concatenation of ``count`` maps of ``width`` channels."""
    return nn.Sequential(
        nn.Conv2d(width * count, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.2, inplace=True),
    )


def _sum(values: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, values)


def architecture_parameter(*shape: int, generator: torch.Generator | None = None) -> nn.Parameter:
    """Make an architecture parameter, 1e-3 times standard normal as in DARTS."""
    return nn.Parameter(1e-3 * torch.randn(*shape, generator=generator))


def ordered_pair(logits: Tensor) -> tuple[int, int]:
    """Return the ordered pair ``j != h`` of largest ``softmax(first)_j * softmax(second)_h``.

    Two independent maxima may coincide, which 3D-ADNAS's Equation 5 leaves open; the maximum over
    pairs of different candidates resolves it. A pool of one gives ``(0, 0)``.

    Args:
        logits: ``(2, F)``.

    >>> ordered_pair(torch.tensor([[0.0, 2.0, 1.0], [0.0, 3.0, 0.5]]))
    (2, 1)
    """
    first, second = logits.detach().softmax(dim=1)
    if len(first) == 1:
        return 0, 0
    product = first[:, None] * second[None, :]
    product.fill_diagonal_(-1.0)
    best = int(product.argmax())
    return best // len(first), best % len(first)


def draw_pair(logits: Tensor, generator: torch.Generator) -> tuple[int, int]:
    """Draw an ordered pair ``j != h`` with probability ``softmax(first)_j * softmax(second)_h``.

    A pool of one gives ``(0, 0)``.

    Args:
        logits: ``(2, F)``.
        generator: of the random choice, on the processor: the same draws on every device.
    """
    first, second = logits.detach().softmax(dim=1)
    if len(first) == 1:
        return 0, 0
    product = first[:, None] * second[None, :]
    product.fill_diagonal_(0.0)
    drawn = int(torch.multinomial(product.flatten().cpu(), 1, generator=generator))
    return drawn // len(first), drawn % len(first)


def entropy(logits: Tensor) -> Tensor:
    """Compute the mean entropy in bits of the choices in the rows of ``logits``."""
    p = logits.softmax(dim=-1)
    return -(p * p.clamp_min(1e-12).log2()).sum(dim=-1).mean()
