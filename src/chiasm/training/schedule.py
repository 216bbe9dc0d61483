"""Learning-rate schedule and optimizer of every training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import nn

from chiasm.training.trainer import Budget

WARM_UP = 0.05
FLOOR = 0.01
DECAY = 0.05


def cosine(fraction: float, *, warm_up: float = 0.0, floor: float = FLOOR) -> float:
    """Return a learning-rate factor that rises linearly to 1, then falls along half a cosine.

    Args:
        fraction: of the training that is done; clipped to [0, 1].
        warm_up: share of the training in which the factor rises.
        floor: factor at the end.
    """
    fraction = min(max(fraction, 0.0), 1.0)
    if fraction < warm_up:
        return fraction / warm_up
    falling = (fraction - warm_up) / (1 - warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * falling))


def steps(fraction: float) -> float:
    """Return a learning-rate factor of 1, of 0.2 from 0.8 of the training, of 0.04 from 0.9.

    References:
        Chen et al., EasyNet, ACM MM 2023.
    """
    return 1.0 if fraction < 0.8 else 0.2 if fraction < 0.9 else 0.2**2


Schedule = Literal["cosine", "steps"]
SCHEDULES: Mapping[Schedule, Callable[[float], float]] = {"cosine": cosine, "steps": steps}

Optimiser = Literal["adamw", "adam"]
OPTIMISERS: Mapping[Optimiser, type[torch.optim.Adam]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}


def training_progress(trainer: Trainer, step: int, *, epochs: int, budget: Budget) -> float:
    """Return the fraction of the training that is done, by epochs or budget, whichever is more.

    Args:
        trainer: gives the current epoch and the number of batches.
        step: of the current epoch.
        epochs: planned.
        budget: whose spent fraction counts.
    """
    steps = max(int(trainer.num_training_batches), 1)
    return max((trainer.current_epoch + step / steps) / max(epochs, 1), budget.fraction)


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate of all parameter groups of an optimizer, wrapped or not."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def decayed_adamw(
    parameters: nn.Module | Iterable[nn.Parameter], *, learning_rate: float, decay: float = DECAY
) -> torch.optim.AdamW:
    """Return AdamW (0.9, 0.999) that decays matrices alone: no bias, no layer norm."""
    candidates = parameters.parameters() if isinstance(parameters, nn.Module) else parameters
    trainable = [p for p in candidates if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.dim() > 1]},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=decay)
