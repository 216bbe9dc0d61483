"""Plain pre-norm transformer layers with self-attention and cross-attention."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from chiasm.diagnosis.layers.expert_encoder import SelfAttention
from chiasm.errors import ConfigurationError


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another, whose tokens are keys and values.

    Args:
        width: D of both, a multiple of ``heads``.
        heads: number of heads.

    References:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, Section 3.2.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(f"{width} channels do not divide into {heads} heads.")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Attend with tokens ``(N, T, D)`` to a context ``(N, S, D)``; returns ``(N, T, D)``."""
        q = rearrange(self.query(tokens), "n t (h d) -> n h t d", h=self.heads)
        k, v = rearrange(self.key_value(context), "n t (s h d) -> s n h t d", s=2, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(rearrange(mixed, "n h t d -> n t (h d)"))
        return out


class SelfLayer(nn.Module):
    """Self-attention and a Linear-GELU-Linear, each after a layer norm, with a residual.

    Args:
        width: D.
        heads: of the attention.
        hidden: channels between the linear maps.
    """

    def __init__(self, *, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width=width, heads=heads)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = _feed_forward(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(N, T, D)`` to the same shape."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        out: Tensor = tokens + self.feed_forward(self.forward_norm(tokens))
        return out


class CrossLayer(nn.Module):
    """Cross-attention and a Linear-GELU-Linear, each after a layer norm, with a residual.

    Args:
        width: D of both sequences.
        heads: of the attention.
        hidden: channels between the linear maps.
    """

    def __init__(self, *, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width=width, heads=heads)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = _feed_forward(width, hidden)

    def forward(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        """Map ``(N, T, D)`` with a context ``(N, S, D)``; without one, attention adds nothing."""
        if context is not None:
            attended = self.attention(self.attention_norm(tokens), self.context_norm(context))
            tokens = tokens + attended
        out: Tensor = tokens + self.feed_forward(self.forward_norm(tokens))
        return out


class SelfEncoder(nn.Module):
    """Layers of self-attention over one sequence, and a final layer norm.

    Args:
        width: D.
        depth: number of layers.
        heads: of the attention.
        hidden: channels inside a layer's feed-forward part.
    """

    def __init__(self, *, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(SelfLayer(width=width, heads=heads, hidden=hidden) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(N, T, D)`` to the same shape."""
        out: Tensor = self.norm(self.layers(tokens))
        return out


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
