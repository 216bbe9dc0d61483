"""Bringing a candidate feature to the shape that all cells share."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.fusion.pools import Candidate


class Projections(nn.ModuleDict):
    """Per candidate a 1x1 convolution to C, batch norm and ReLU, at the candidate's own size."""

    def __init__(self, candidates: Iterable[Candidate], *, width: int) -> None:
        super().__init__(
            {
                _key(c.name): nn.Sequential(
                    nn.Conv2d(c.channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
                )
                for c in candidates
            }
        )

    def project(self, name: str, feature: Tensor) -> Tensor:
        """Project one candidate, without resizing."""
        out: Tensor = self[_key(name)](feature)
        return out


def resize(feature: Tensor, size: int) -> Tensor:
    """Bilinear resize to ``size`` x ``size``; half-pixel centres (corners not aligned)."""
    if feature.shape[-1] == size and feature.shape[-2] == size:
        return feature
    return F.interpolate(feature, size=(size, size), mode="bilinear", align_corners=False)


def _key(name: str) -> str:
    # Module names must not hold dots.
    return name.replace(".", "_")
