"""From discrete choices to softmax weights, and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def architecture_parameter(*shape: int, generator: torch.Generator | None = None) -> nn.Parameter:
    """A new architecture parameter, 1e-3 times standard normal as in DARTS."""
    return nn.Parameter(1e-3 * torch.randn(*shape, generator=generator))


def ordered_pair(logits: Tensor) -> tuple[int, int]:
    """The ordered pair ``j != h`` of largest ``softmax(first)_j * softmax(second)_h``.

    Two independent maxima may coincide, which 3D-ADNAS's Equation 5 leaves open; the product over
    pairs of different candidates is what is meant. A pool of one gives ``(0, 0)``.

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
    """An ordered pair ``j != h`` drawn with probability ``softmax(first)_j * softmax(second)_h``.

    A pool of one gives ``(0, 0)``.

    Args:
        logits: ``(2, F)``.
        generator: of the random choice.
    """
    first, second = logits.detach().softmax(dim=1)
    if len(first) == 1:
        return 0, 0
    product = first[:, None] * second[None, :]
    product.fill_diagonal_(0.0)
    drawn = int(torch.multinomial(product.flatten(), 1, generator=generator))
    return drawn // len(first), drawn % len(first)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy in bits of the choices in the rows of ``logits``."""
    p = logits.softmax(dim=-1)
    return -(p * p.clamp_min(1e-12).log2()).sum(dim=-1).mean()
