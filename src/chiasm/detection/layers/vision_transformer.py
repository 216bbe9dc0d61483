"""Vision transformer that gives maps of its middle blocks, for pictures of any size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from chiasm.errors import ConfigurationError

__all__ = ["VisionTransformer"]

_EPSILON = 1e-6  # of the layer norms, as published


class SelfAttention(nn.Module):
    """Attention of all tokens ``(N, T, D)`` to all.

    Args:
        width, heads: D, and the heads among which it is divided.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(N, T, D)`` to the same shape."""
        query, key, value = rearrange(
            self.qkv(tokens), "n t (three h d) -> three n h t d", three=3, h=self.heads
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.proj(rearrange(mixed, "n h t d -> n t (h d)"))
        return output


class LayerScale(nn.Module):
    """A learned factor per channel of a residual branch.

    References:
        Touvron et al., Going Deeper with Image Transformers, ICCV 2021, Section 2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale ``(N, T, D)``."""
        return tokens * self.gamma


class Block(nn.Module):
    """Attention and a perceptron, each on normed tokens, scaled and added to them."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = SelfAttention(width=width, heads=heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, 4 * width), gelu=nn.GELU(), fc2=nn.Linear(4 * width, width)
            )
        )
        self.ls2 = LayerScale(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(N, T, D)`` to the same shape."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        output: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return output


class PatchEmbedding(nn.Module):
    """A token for each square patch of a picture."""

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, D, H / patch, W / patch)``."""
        output: Tensor = self.proj(images)
        return output


class VisionTransformer(nn.Module):
    """Vision transformer with layer scale; by default ViT-S/14 as DINOv2 trained it at 518 pixels.

    Blocks behind the deepest one that is read do not exist. Weights have the names of DINOv2's
    published files. Position embeddings are interpolated (bicubic) for any other grid.

    Args:
        blocks: whose output is returned, counted from 1, ascending. The output of the last of all
            is normed, as published.
        depth: blocks of the network as trained.
        width, heads: of a block.
        patch: pixels of a patch's side.
        grid: patches of a side at which the position embeddings were trained.

    Raises:
        ConfigurationError: there are no such blocks.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, Section 3.1; Oquab et al.,
        DINOv2: Learning Robust Visual Features without Supervision, arXiv 2304.07193, 2023.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (6, 9),
        depth: int = 12,
        width: int = 384,
        heads: int = 6,
        patch: int = 14,
        grid: int = 37,
    ) -> None:
        super().__init__()
        ascending = list(blocks) == sorted(set(blocks))
        if not blocks or not ascending or blocks[0] < 1 or blocks[-1] > depth:
            raise ConfigurationError(
                f"blocks is {', '.join(map(str, blocks)) or 'empty'}; it names blocks from 1 to "
                f"{depth} in ascending order, as in 6, 9."
            )
        self.read = tuple(blocks)
        self.patch = patch
        self.grid = grid
        self.patch_embed = PatchEmbedding(patch=patch, width=width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + grid * grid, width))
        self.blocks = nn.ModuleList(Block(width=width, heads=heads) for _ in range(blocks[-1]))
        self.norm = nn.LayerNorm(width, eps=_EPSILON) if blocks[-1] == depth else nn.Identity()

    def positions(self, height: int, width: int) -> Tensor:
        """Return the patches' position embeddings ``(1, D, height, width)`` of a grid."""
        trained = rearrange(self.pos_embed[:, 1:], "n (h w) d -> n d h w", h=self.grid)
        if (height, width) == (self.grid, self.grid):
            return trained
        return F.interpolate(trained, size=(height, width), mode="bicubic", align_corners=False)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Map normalised ``(N, 3, H, W)`` to ``{block: (N, D, H / patch, W / patch)}``.

        H and W are multiples of ``patch``.
        """
        patches = self.patch_embed(images)
        count, _, height, width = patches.shape  # len() would fix the number in an exported graph
        patches = patches + self.positions(height, width).to(patches)
        first = (self.cls_token + self.pos_embed[:, :1]).to(patches)
        tokens = torch.cat(
            [first.expand(count, -1, -1), rearrange(patches, "n d h w -> n (h w) d")], dim=1
        )
        maps: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.read:
                # The norm is that of the network's last block, and else changes nothing.
                output = self.norm(tokens) if number == len(self.blocks) else tokens
                maps[number] = rearrange(output[:, 1:], "n (h w) d -> n d h w", h=height)
        return maps
