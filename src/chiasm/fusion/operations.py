"""The four ways to fuse two feature maps of one shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.errors import GenotypeError


class Addition(nn.Module):
    """``x + y`` for maps ``(N, C, S, S)``."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps."""
        return x + y


class Concatenation(nn.Module):
    """Concatenation, 1x1 convolution 2C -> C, batch norm, ReLU (BM-NAS's ConcatFC)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps."""
        fused: Tensor = self.layers(torch.cat([x, y], dim=1))
        return fused


class GatedLinear(nn.Module):
    """Concatenation, 1x1 convolution 2C -> 2C, batch norm, gated linear unit (LinearGLU)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps."""
        return F.glu(self.layers(torch.cat([x, y], dim=1)), dim=1)


class GuidedAttention(nn.Module):
    """Every pixel of the guide ``x`` attends to an average-pooled ``y``; then group norm.

    One head, no projections. ``y`` is pooled to a quarter of its side and at most ``tokens``,
    because attention between all pixels of 256 x 256 maps would need 65,536 squared scores. The
    order of the inputs matters: the first is the query, the second key and value.

    References:
        Vaswani et al., 2017 (scaled dot-product); BM-NAS, ScaleDotAttn.
    """

    def __init__(self, width: int, *, tokens: int = 32) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = nn.GroupNorm(1, width)

    def pooled_side(self, side: int) -> int:
        """Return the side of the pooled ``y`` for maps of a side."""
        return max(1, min(side // 4, self.tokens))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps."""
        height, width = x.shape[-2:]
        pooled = F.adaptive_avg_pool2d(y, (self.pooled_side(height), self.pooled_side(width)))
        # The kernels that do not compute and keep all scores take four axes, the last one dense.
        query = x.flatten(2).transpose(1, 2)[:, None].contiguous()  # n c h w -> n 1 (h w) c
        memory = pooled.flatten(2).transpose(1, 2)[:, None].contiguous()
        answer = F.scaled_dot_product_attention(query, memory, memory)
        # On a GPU autocast computes group norms in float32.
        normed: Tensor = self.norm(answer.transpose(2, 3).reshape(x.shape)).to(x.dtype)
        return normed


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "addition": Addition,
    "concatenation": Concatenation,
    "glu": GatedLinear,
    "guided_attention": GuidedAttention,
}


def make_operation(name: str, width: int) -> nn.Module:
    """Build an operation by name; ``GenotypeError`` lists the names that exist."""
    if name not in OPERATIONS:
        raise GenotypeError(
            f"There is no fusion operation named {name!r}; there are: {', '.join(OPERATIONS)}."
        )
    return OPERATIONS[name](width)
