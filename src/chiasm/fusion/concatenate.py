"""The hand-made fusion that the search is measured against: concatenate everything."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from chiasm.fusion.pools import Pools
from chiasm.fusion.projection import Projections, resize


class ConcatenationFusion(nn.Module):
    """Project every map, resize, concatenate, 1x1 convolution to C.

    References:
        Chen et al., EasyNet, ACM MM 2023: layers of both modalities, concatenated.
    """

    def __init__(self, pools: Pools, *, width: int, size: int) -> None:
        super().__init__()
        maps = pools.maps()
        self.required = frozenset(maps)
        self.names = tuple(maps)
        self.size = size
        self.projections = Projections(maps.values(), width=width)
        self.mix = nn.Sequential(
            nn.Conv2d(width * len(self.names), width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse feature maps by name into ``(N, C, S, S)``."""
        maps = [resize(self.projections.project(name, features), self.size) for name in self.names]
        out: Tensor = self.mix(torch.cat(maps, dim=1))
        return out
