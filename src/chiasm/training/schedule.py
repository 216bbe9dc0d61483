"""Learning rates and weight decay as transformers are usually trained with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

WARM_UP = 0.05
FLOOR = 0.01
DECAY = 0.05


def warmed_cosine(fraction: float, *, warm_up: float = WARM_UP, floor: float = FLOOR) -> float:
    """Learning-rate factor that rises to 1 in a straight line, then falls along half a cosine.

    Args:
        fraction: of the training that is done.
        warm_up: share of the training in which it rises.
        floor: at the end.
    """
    done = min(max(fraction, 0.0), 1.0)
    if done < warm_up:
        return done / warm_up
    along = (done - warm_up) / (1 - warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))


def decayed_adamw(
    learned: nn.Module | Iterable[nn.Parameter], *, learning_rate: float, decay: float = DECAY
) -> torch.optim.AdamW:
    """AdamW (0.9, 0.999) that decays matrices alone: no bias, no layer norm."""
    every = learned.parameters() if isinstance(learned, nn.Module) else learned
    parameters = [p for p in every if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1]},
        {
            "params": [p for p in parameters if p.dim() <= 1],
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=decay)
