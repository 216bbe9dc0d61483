"""Projection of candidate features to the shape that all cells share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.fusion.pools import Candidate


class Projection(nn.Module):
    """1x1 convolution to C, batch norm and ReLU, at the candidate's own size.

    A joined candidate is convolved part by part, each at its own size, and the results are summed:
    the same as one convolution of the concatenation, without its memory.
    """

    def __init__(self, candidate: Candidate, *, width: int) -> None:
        super().__init__()
        self.names = tuple(part.name for part in candidate.maps)
        self.layers = nn.ModuleList(
            nn.Conv2d(part.channels, width, 1, bias=False) for part in candidate.maps
        )
        if len(self.names) > 1:  # so that the sum starts with the variance of one convolution
            total = candidate.channels
            for layer, part in zip(self.layers, candidate.maps):
                layer.weight.data *= (part.channels / total) ** 0.5
        self.norm: nn.Module = nn.BatchNorm2d(width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Project the candidate's maps ``(N, C_i, h_i, w_i)`` to ``(N, C, h, w)``."""
        maps = [layer(features[name]) for name, layer in zip(self.names, self.layers)]
        finest = max(value.shape[-1] for value in maps)
        total = sum(resize(value, finest) for value in maps)
        return F.relu(self.norm(total), inplace=True)


class Projections(nn.ModuleDict):
    """One projection per candidate."""

    def __init__(self, candidates: Iterable[Candidate], *, width: int) -> None:
        super().__init__({_key(c.name): Projection(c, width=width) for c in candidates})

    def project(self, name: str, features: Mapping[str, Tensor]) -> Tensor:
        """Project one candidate, without resizing it to the cells' size."""
        out: Tensor = self[_key(name)](features)
        return out


def resize(feature: Tensor, size: int) -> Tensor:
    """Bilinear resize to ``size`` x ``size``; half-pixel centres (corners not aligned)."""
    if feature.shape[-1] == size and feature.shape[-2] == size:
        return feature
    return F.interpolate(feature, size=(size, size), mode="bilinear", align_corners=False)


def _key(name: str) -> str:
    # Module names must not hold dots.
    return name.replace(".", "_")
