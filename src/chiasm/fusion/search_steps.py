"""The outer level of a differentiable search, independent of the inner one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.metrics.ranking import nan_loses

# Losses at the current weights, one for each micro-batch; their sum is that of a batch.
Losses = Callable[[], Iterable[Tensor]]


class ArchitectureSteps:
    """Batches, gradients and optimiser of the architecture, and when it is updated.

    Args:
        network: holds the supernet.
        supernet: whose architecture is searched.
        batches: loader for the architecture's steps; restarts at its end.
        rate, decay: of its optimiser.
        order: 1 (alternation) or 2 (DARTS, unrolled by finite differences).
        warm_up: share of the search in which the weights alone are trained. Without it, the cells'
            outputs are still noise when the architecture chooses between them and fixed features,
            and early and middle cells are discarded before they are trained.

    Attributes:
        warming_up: whether the last step of the weights was one of the warm-up.

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
        self.warming_up = True
        self._batches = batches
        self._stream: Iterator[Any] = iter(())

    def start_epoch(self, epoch: int) -> None:
        """Restart the batches in this epoch's order."""
        sampler = self._batches.sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        self._stream = iter(self._batches)

    def next_batch(self) -> Any:
        """Return the next batch for the architecture."""
        try:
            return next(self._stream)
        except StopIteration:
            self._stream = iter(self._batches)
            return next(self._stream)

    def due(self, fraction: float) -> bool:
        """Whether the architecture is updated at this fraction of the search; it is noted."""
        self.warming_up = fraction < self.warm_up
        return not self.warming_up

    def weights(self) -> list[nn.Parameter]:
        """Return the parameters of the inner level: all trainable ones but the architecture."""
        alphas = {id(p) for p in self.supernet.architecture_parameters()}
        return [p for p in self.network.parameters() if p.requires_grad and id(p) not in alphas]

    def optimiser(self) -> torch.optim.Adam:
        """Make Adam with BM-NAS's settings."""
        return torch.optim.Adam(
            self.supernet.architecture_parameters(),
            lr=self.rate,
            betas=(0.5, 0.999),
            weight_decay=self.decay,
        )

    def differentiate(self, *, training: Losses, validation: Losses, rate: float) -> Tensor:
        """Set the architecture's gradients of the validation loss; return that loss for order 1.

        Args:
            training, validation: losses of the network at its current weights.
            rate: of the weights, for order 2.
        """
        alphas = self.supernet.architecture_parameters()
        loss = alphas[0].new_zeros(())
        gradients: Sequence[Tensor | None]
        if self.order == 1:
            loss, gradients = summed_gradients(validation(), alphas)
        else:
            gradients = second_order_gradients(self.weights(), alphas, training, validation, rate)
        for alpha, gradient in zip(alphas, gradients):
            alpha.grad = gradient
        return loss.detach()


class BestGenotype:
    """The strongest architecture of the best epoch, and the history of the search.

    Attributes:
        value: the best value of the criterion; larger is better, NaN is worst.
        genotype: of that epoch; None before the first that is no warm-up.
        history: a row for each epoch.
    """

    def __init__(self) -> None:
        self.value = -math.inf
        self.genotype: Genotype | None = None
        self.history: list[dict[str, float]] = []

    def update(
        self, supernet: FusionSupernet, value: float, *, warm_up: bool = False, **row: float
    ) -> None:
        """Append a row to the history; take the genotype if ``value`` is the best so far.

        An epoch of the warm-up is never taken: its architecture is the random start, whatever the
        weights have learned.
        """
        self.history.append(row)
        if warm_up:
            return
        if self.genotype is None or nan_loses(value) > nan_loses(self.value):
            self.value = value
            self.genotype = supernet.genotype()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        text = None if self.genotype is None else self.genotype.to_json()
        return {"value": self.value, "history": self.history, "genotype": text}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.value = state["value"]
        self.history = state["history"]
        text = state["genotype"]
        self.genotype = None if text is None else Genotype.from_json(text)


def second_order_gradients(
    weights: Sequence[nn.Parameter],
    architecture: Sequence[nn.Parameter],
    training_loss: Losses,
    validation_loss: Losses,
    rate: float,
) -> list[Tensor]:
    """Compute architecture gradients of the validation loss after one gradient step of the weights.

    The product with the mixed second derivative is approximated by central differences with step
    ``0.01 / ||gradient||``. Weights are restored, batch-norm statistics are not.

    Args:
        weights, architecture: inner and outer parameters.
        training_loss, validation_loss: losses of the network at its current weights.
        rate: of the inner step.

    References:
        Liu et al., DARTS, ICLR 2019, Equations 7 and 8.
    """
    gradients = _gradients(training_loss(), weights)
    origins = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients):
            weight.sub_(rate * gradient)
    direct = _gradients(validation_loss(), [*architecture, *weights])
    outer, inner = direct[: len(architecture)], direct[len(architecture) :]
    norm = sum(((g * g).sum() for g in inner), start=inner[0].new_zeros(())).sqrt()
    step = 0.01 / float(norm.clamp_min(1e-12))

    mixed = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for weight, origin, direction in zip(weights, origins, inner):
                weight.copy_(origin + sign * step * direction)
        mixed.append(_gradients(training_loss(), architecture))
    with torch.no_grad():
        for weight, origin in zip(weights, origins):
            weight.copy_(origin)
    return [g - rate * (up - down) / (2 * step) for g, up, down in zip(outer, *mixed)]


def summed_gradients(
    losses: Iterable[Tensor], parameters: Sequence[nn.Parameter]
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the sum of losses and its gradients, None for a parameter that no loss depends on.

    One loss is computed after the other, so that no two graphs are kept at once.
    """
    total = parameters[0].new_zeros(())
    sums: list[Tensor | None] = [None] * len(parameters)
    for number, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True)
        sums = [g if s is None else s if g is None else s + g for s, g in zip(sums, gradients)]
        total = total + loss.detach() if number else loss.detach()
    return total, sums


def _gradients(losses: Iterable[Tensor], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    _, gradients = summed_gradients(losses, parameters)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]
