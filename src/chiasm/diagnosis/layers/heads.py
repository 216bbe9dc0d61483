"""Heads on a pooled embedding: the projection of stage one and the classes of stage two."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Linear-GELU-Linear, normalised to length 1, for the contrast of the first stage only.

    Args:
        width: D of the embedding.
        hidden: channels between the layers.
        out: channels of the projection.

    References:
        MAD, Section 3.D; Khosla et al., Supervised Contrastive Learning, NeurIPS 2020.
    """

    def __init__(self, *, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``(..., D)`` to unit vectors ``(..., P)`` in float32."""
        return F.normalize(self.layers(embedding).float(), dim=-1)


class ClassHead(nn.Module):
    """Logits of the classes, linear in the embedding.

    Args:
        width: D of the embedding.
        classes: number of classes K.

    References:
        MAD, Section 3.E.
    """

    def __init__(self, *, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``(N, D)`` to logits ``(N, K)``."""
        out: Tensor = self.linear(embedding)
        return out
