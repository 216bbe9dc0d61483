"""Gradients of the architecture through one step of the weights (DARTS, second order)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def second_order_gradients(
    network: nn.Module,
    weights: Sequence[nn.Parameter],
    architecture: Sequence[nn.Parameter],
    training_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    rate: float,
) -> list[Tensor]:
    """Architecture gradients of the validation loss after one gradient step of the weights.

    The product with the mixed second derivative is taken by central differences with step
    ``0.01 / ||gradient||``. Weights are left as they were; batch-norm statistics are not restored.

    Args:
        network: whose parameters both lists are.
        weights, architecture: inner and outer parameters.
        training_loss, validation_loss: evaluate the network as it stands.
        rate: of the inner step.

    References:
        Liu et al., DARTS, ICLR 2019, Equations 7 and 8.
    """
    gradients = _gradients(training_loss(), weights)
    kept = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients):
            weight.sub_(rate * gradient)
    direct = _gradients(validation_loss(), [*architecture, *weights])
    outer, inner = direct[: len(architecture)], direct[len(architecture) :]
    norm = torch.sqrt(sum((g * g).sum() for g in inner) + torch.tensor(0.0))
    step = 0.01 / float(norm.clamp_min(1e-12))

    mixed = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for weight, origin, direction in zip(weights, kept, inner):
                weight.copy_(origin + sign * step * direction)
        mixed.append(_gradients(training_loss(), architecture))
    with torch.no_grad():
        for weight, origin in zip(weights, kept):
            weight.copy_(origin)
    return [g - rate * (up - down) / (2 * step) for g, up, down in zip(outer, *mixed)]


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found)]
