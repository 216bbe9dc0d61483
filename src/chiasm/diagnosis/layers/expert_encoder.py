"""A pre-norm transformer whose feed-forward part is a gated mixture of experts.

References:
    MAD, Section 3.C.
    Mustafa et al., Multimodal Contrastive Learning with LIMoE, NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from chiasm.diagnosis.classifier import GateStatistics
from chiasm.errors import ConfigurationError

Gate = Literal["softmax", "uniform", "top1"]


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    ``nn.MultiheadAttention`` is not used: in evaluation it stores the whole matrix of weights,
    which is too large for thousands of tokens.

    Args:
        width: D, a multiple of ``heads``.
        heads: number of heads.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(f"{width} channels do not divide into {heads} heads.")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(N, T, D)`` to the same shape."""
        q, k, v = rearrange(self.qkv(tokens), "n t (s h d) -> s n h t d", s=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(rearrange(mixed, "n h t d -> n t (h d)"))
        return out


class ExpertMixture(nn.Module):
    """Experts of Linear-GELU-Linear, their outputs weighted by a gate.

    ``"uniform"`` is the mean of the experts, equal to one expert of E times the width.
    ``"softmax"`` runs every expert on every token and weights them. ``"top1"`` runs only the
    token's strongest expert, multiplies by its gate, and drops no token.

    Args:
        width: D.
        hidden: channels inside an expert.
        experts: E; one expert has no gate.
        gate: see above.
    """

    def __init__(
        self, *, width: int, hidden: int, experts: int = 2, gate: Gate = "softmax"
    ) -> None:
        super().__init__()
        if experts < 1 or gate not in ("softmax", "uniform", "top1"):
            raise ConfigurationError(
                f"A mixture takes at least one expert and a gate that is 'softmax', 'uniform' or "
                f"'top1', not {experts} and {gate!r}."
            )
        self.gate = gate
        self.router = nn.Linear(width, experts) if gate != "uniform" and experts > 1 else None
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in range(experts)
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, T, D)`` to the same shape and the gates ``(N, T, E)`` in float32."""
        if self.router is None:
            gates = tokens.new_full(
                (*tokens.shape[:2], len(self.experts)), 1 / len(self.experts), dtype=torch.float32
            )
        else:
            gates = self.router(tokens).float().softmax(dim=-1)
        if self.router is not None and self.gate == "top1":
            return self._top1(tokens, gates), gates
        weights = gates.to(tokens.dtype)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            out = out + weights[..., number, None] * expert(tokens)
        return out, gates

    def _top1(self, tokens: Tensor, gates: Tensor) -> Tensor:
        strength, chosen = gates.flatten(0, 1).max(dim=-1)  # (N T,) each
        order = chosen.argsort(stable=True)
        sorted_tokens = tokens.flatten(0, 1)[order]
        if tokens.is_meta:  # without values there is no choice; any division costs the same
            pieces = sorted_tokens.tensor_split(len(self.experts))
        else:
            counts = chosen.bincount(minlength=len(self.experts)).tolist()
            pieces = sorted_tokens.split(counts)
        mapped = torch.cat([expert(piece) for expert, piece in zip(self.experts, pieces)])
        weighted = mapped[order.argsort()] * strength[:, None].to(mapped.dtype)
        return weighted.view_as(tokens)


class EncoderLayer(nn.Module):
    """Attention and experts, each after a layer norm, with a residual."""

    def __init__(self, *, width: int, heads: int, hidden: int, experts: int, gate: Gate) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width=width, heads=heads)
        self.mixture_norm = nn.LayerNorm(width)
        self.mixture = ExpertMixture(width=width, hidden=hidden, experts=experts, gate=gate)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, T, D)`` to the same shape and the gates ``(N, T, E)``."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        mixed, gates = self.mixture(self.mixture_norm(tokens))
        return tokens + mixed, gates


class ExpertEncoder(nn.Module):
    """Encoder layers shared by the tokens of all modalities, and a final layer norm.

    Args:
        width: D.
        depth: number of layers L.
        heads: of the attention.
        hidden: channels inside an expert.
        experts: E.
        gate: see ``ExpertMixture``.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int = 4,
        heads: int = 8,
        hidden: int,
        experts: int = 2,
        gate: Gate = "softmax",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width=width, heads=heads, hidden=hidden, experts=experts, gate=gate)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, GateStatistics]]:
        """Map the tokens ``(N, T_m, D)`` of all modalities; also return their gate statistics."""
        names, lengths = list(tokens), [part.shape[1] for part in tokens.values()]
        joint = torch.cat(list(tokens.values()), dim=1)  # (N, sum of T_m, D)
        gates = []
        for layer in self.layers:
            joint, gate = layer(joint)
            gates.append(gate)
        parts = dict(zip(names, self.norm(joint).split(lengths, dim=1)))
        by_modality = zip(*(gate.split(lengths, dim=1) for gate in gates))
        return parts, {n: gate_statistics(torch.stack(g)) for n, g in zip(names, by_modality)}


def gate_statistics(gates: Tensor) -> GateStatistics:
    """Compute statistics of gates ``(L, N, T, E)``; all but ``share`` are differentiable."""
    usage = gates.mean(dim=(1, 2))
    strongest = F.one_hot(gates.argmax(dim=-1), gates.shape[-1])
    return GateStatistics(
        usage=usage,
        share=strongest.float().mean(dim=(1, 2)),
        token_entropy=_entropy(gates).mean(dim=(1, 2)),
        usage_entropy=_entropy(usage),
    )


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=-1)
