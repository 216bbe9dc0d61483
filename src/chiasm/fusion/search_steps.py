"""The outer level of a differentiable search, whatever the inner one learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionSupernet


class ArchitectureSteps:
    """When the architecture moves, on which batches, and along which gradients.

    Args:
        network: holds the supernet.
        supernet: whose architecture is searched.
        batches: loader for the architecture's steps; runs anew when it is at its end.
        rate, decay: of its optimiser.
        order: 1 (alternation) or 2 (DARTS, unrolled by finite differences).
        warm_up: share of the search in which the weights alone are trained. Without it, the cells'
            outputs are still noise when the architecture chooses between them and ready features,
            and early and middle cells are voted out before they can do anything.

    References:
        Liu et al., DARTS, ICLR 2019; Yin et al., BM-NAS, AAAI 2022 (optimiser settings).
    """

    def __init__(
        self,
        network: nn.Module,
        supernet: FusionSupernet,
        *,
        batches: DataLoader[Any],
        rate: float,
        decay: float = 1e-3,
        order: int = 1,
        warm_up: float = 0.3,
    ) -> None:
        self.network = network
        self.supernet = supernet
        self.rate, self.decay = rate, decay
        self.order = order
        self.warm_up = warm_up
        self._batches = batches
        self._stream: Iterator[Any] = iter(())

    def start_epoch(self, epoch: int) -> None:
        """Begin the stream of batches anew, in this epoch's order."""
        sampler = self._batches.sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        self._stream = iter(self._batches)

    def next_batch(self) -> Any:
        """The next batch for the architecture."""
        try:
            return next(self._stream)
        except StopIteration:
            self._stream = iter(self._batches)
            return next(self._stream)

    def due(self, done: float) -> bool:
        """Whether the architecture moves when this share of the search is done."""
        return done >= self.warm_up

    def weights(self) -> list[nn.Parameter]:
        """What the inner level trains: all that learns and is not architecture."""
        alphas = {id(p) for p in self.supernet.architecture_parameters()}
        return [p for p in self.network.parameters() if p.requires_grad and id(p) not in alphas]

    def optimiser(self) -> torch.optim.Adam:
        """Adam with BM-NAS's settings."""
        return torch.optim.Adam(
            self.supernet.architecture_parameters(),
            lr=self.rate,
            betas=(0.5, 0.999),
            weight_decay=self.decay,
        )

    def differentiate(
        self, *, training: Callable[[], Tensor], validation: Callable[[], Tensor], rate: float
    ) -> Tensor:
        """Set the architecture's gradients of the validation loss; returns that loss, order 1 only.

        Args:
            training, validation: losses of the network as it stands.
            rate: of the weights, for order 2.
        """
        alphas = self.supernet.architecture_parameters()
        loss = torch.zeros(())
        if self.order == 1:
            loss = validation()
            gradients = torch.autograd.grad(loss, alphas, allow_unused=True)
        else:
            gradients = second_order_gradients(
                self.network, self.weights(), alphas, training, validation, rate
            )
        for alpha, gradient in zip(alphas, gradients):
            alpha.grad = gradient
        return loss.detach()


class BestGenotype:
    """The strongest architecture of the epoch with the best figure, and how it came about.

    Attributes:
        value: the best figure; larger is better.
        genotype: of that epoch; None before the first.
        history: a row for each epoch.
    """

    def __init__(self) -> None:
        self.value = -math.inf
        self.genotype: Genotype | None = None
        self.history: list[dict[str, float]] = []

    def judge(self, supernet: FusionSupernet, value: float, **row: float) -> None:
        """Keep the genotype if the relaxed network was never better, and the row."""
        self.history.append(row)
        if value > self.value or self.genotype is None:
            self.value = value
            self.genotype = supernet.genotype()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        text = None if self.genotype is None else self.genotype.to_json()
        return {"value": self.value, "history": self.history, "genotype": text}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the best genotype again."""
        self.value = state["value"]
        self.history = state["history"]
        text = state["genotype"]
        self.genotype = None if text is None else Genotype.from_json(text)


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
