"""Affine coupling flows over tokens: invertible, with a known log-determinant.

References:
    Dinh et al., Density Estimation using Real NVP, ICLR 2017.
    MAD, Section 3.B: three couplings for the picture's tokens, five causal ones for the series'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.errors import ConfigurationError

FlowState = tuple[Tensor, ...]


class TokenConditioner(nn.Module):
    """Scale and shift from the token's own constant half: Linear-GELU-Linear.

    Args:
        half: channels of the constant half, D/2.
        hidden: channels between the two layers.
    """

    memory = 0

    def __init__(self, *, half: int, hidden: int) -> None:
        super().__init__()
        self.expand, self.contract = nn.Linear(half, hidden), nn.Linear(hidden, 2 * half)
        _start_at_zero(self.contract)

    def forward(self, constant: Tensor, past: Tensor) -> Tensor:
        """Map ``(N, T, D/2)`` to raw scale and shift ``(N, T, D)``; the past is empty."""
        out: Tensor = self.contract(F.gelu(self.expand(constant)))
        return out


class CausalConditioner(nn.Module):
    """Scale and shift from the constant halves of this token and the k - 1 before it.

    Conv1d of size k, GELU, Conv1d of size 1. Before the series begins there are zeros.

    Args:
        half: channels of the constant half, D/2.
        hidden: channels between the two layers.
        kernel: k.
    """

    def __init__(self, *, half: int, hidden: int, kernel: int = 3) -> None:
        super().__init__()
        self.memory = kernel - 1
        self.expand = nn.Conv1d(half, hidden, kernel)
        self.contract = nn.Conv1d(hidden, 2 * half, 1)
        _start_at_zero(self.contract)

    def forward(self, constant: Tensor, past: Tensor) -> Tensor:
        """Map ``(N, T, D/2)`` after ``(N, k - 1, D/2)`` to raw scale and shift ``(N, T, D)``."""
        seen = torch.cat([past, constant], dim=1).transpose(1, 2)  # (N, D/2, k - 1 + T)
        out: Tensor = self.contract(F.gelu(self.expand(seen))).transpose(1, 2)
        return out


class AffineCoupling(nn.Module):
    """One half of the channels stays, the other is scaled and shifted by what the first says.

    ``y_a = x_a`` and ``y_b = x_b * exp(s) + t`` with ``s = 2 tanh(raw / 2)``. Which channels are
    which is said by a fixed permutation, undone afterwards, so that a fresh layer is the identity.

    Args:
        conditioner: raw scale and shift from the constant half.
        permutation: ``(D,)`` int64; its first half names the constant channels.
    """

    permutation: Tensor
    order: Tensor

    def __init__(
        self, conditioner: TokenConditioner | CausalConditioner, *, permutation: Tensor
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.register_buffer("permutation", permutation)
        self.register_buffer("order", permutation.argsort())

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``(N, T, D)``; returns it, the log-determinant ``(N,)`` and the new past."""
        constant, changed = x[..., self.permutation].chunk(2, dim=-1)
        past = self._past(constant, past)
        scale, shift = self._affine(constant, past)
        changed = (changed.float() * scale.exp() + shift).to(x.dtype)
        y = torch.cat([constant, changed], dim=-1)[..., self.order]
        return y, scale.sum(dim=(1, 2)), self._newer(past, constant)

    def inverse(self, y: Tensor) -> Tensor:
        """What ``forward`` mapped to ``(N, T, D)``, from the beginning of the series."""
        constant, changed = y[..., self.permutation].chunk(2, dim=-1)
        scale, shift = self._affine(constant, self._past(constant, None))
        changed = ((changed.float() - shift) * (-scale).exp()).to(y.dtype)
        return torch.cat([constant, changed], dim=-1)[..., self.order]

    def _affine(self, constant: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        # In float32 whatever the precision: the exponential of a rounded scale is not invertible.
        raw, shift = self.conditioner(constant, past).float().chunk(2, dim=-1)
        return 2 * torch.tanh(raw / 2), shift

    def _past(self, constant: Tensor, past: Tensor | None) -> Tensor:
        if past is not None:
            return past
        count, _, half = constant.shape
        return constant.new_zeros(count, self.conditioner.memory, half)

    def _newer(self, past: Tensor, constant: Tensor) -> Tensor:
        seen = torch.cat([past, constant], dim=1)
        return seen[:, seen.shape[1] - self.conditioner.memory :]


class CouplingFlow(nn.Module):
    """Couplings one after the other.

    Args:
        couplings: in the order of the forward direction.
    """

    def __init__(self, couplings: Sequence[AffineCoupling]) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(couplings)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens ``(N, T, D)``; returns them and the log-determinant ``(N,)`` in nats."""
        mapped, log_det, _ = self.stream(tokens)
        return mapped, log_det

    def inverse(self, mapped: Tensor) -> Tensor:
        """The tokens ``(N, T, D)`` that ``forward`` would map to these."""
        for coupling in reversed(self.couplings):
            mapped = coupling.inverse(mapped)
        return mapped

    def stream(
        self, tokens: Tensor, state: FlowState | None = None
    ) -> tuple[Tensor, Tensor, FlowState]:
        """Map the next tokens ``(N, t, D)`` of a series that comes in pieces.

        The state holds, for each coupling, the constant halves of the last k - 1 tokens; None is
        the beginning. The log-determinants of the pieces add up to the whole series'.
        """
        log_det = tokens.new_zeros(len(tokens), dtype=torch.float32)
        newer = []
        for coupling, past in zip(self.couplings, state or (None,) * len(self.couplings)):
            tokens, more, kept = coupling(tokens, past)
            log_det = log_det + more
            newer.append(kept)
        return tokens, log_det, tuple(newer)


class IdentityFlow(nn.Module):
    """Tokens as they are: the ablation of the flow."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(N, T, D)`` and log-determinants ``(N,)`` of 0."""
        return tokens, tokens.new_zeros(len(tokens), dtype=torch.float32)

    def inverse(self, mapped: Tensor) -> Tensor:
        """The same tokens."""
        return mapped


def image_flow(*, width: int, hidden: int, couplings: int = 3, seed: int = 0) -> CouplingFlow:
    """Flow that maps every token by itself."""
    return CouplingFlow(
        [
            AffineCoupling(TokenConditioner(half=width // 2, hidden=hidden), permutation=order)
            for order in channel_permutations(width, couplings, seed=seed)
        ]
    )


def signal_flow(
    *, width: int, hidden: int, couplings: int = 5, kernel: int = 3, seed: int = 1
) -> CouplingFlow:
    """Flow in which a token depends on itself and on earlier ones, so that it can be streamed."""
    return CouplingFlow(
        [
            AffineCoupling(
                CausalConditioner(half=width // 2, hidden=hidden, kernel=kernel), permutation=order
            )
            for order in channel_permutations(width, couplings, seed=seed)
        ]
    )


def channel_permutations(width: int, count: int, *, seed: int) -> list[Tensor]:
    """One permutation ``(width,)`` for each coupling, always the same ones for a seed.

    Every second one swaps the halves of the one before, so that each pair of couplings changes
    every channel once; drawn singly, three would leave an eighth of the channels as they were.
    """
    if width % 2:
        raise ConfigurationError(f"A coupling halves the channels; {width} is odd.")
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(width) for _ in range(0, count, 2)]
    orders = [order for first in drawn for order in (first, np.roll(first, width // 2))]
    return [torch.tensor(order.tolist()) for order in orders[:count]]


def flow_nll(mapped: Tensor, log_det: Tensor) -> Tensor:
    """Negative log-likelihood ``(N,)`` under a standard normal, nats per token and channel.

    ``[||z||^2 / 2 - log_det] / (T D)`` for ``z`` of shape ``(N, T, D)``; the constant
    ``log(2 pi) / 2`` is left out.
    """
    square = mapped.float().square().sum(dim=(1, 2))
    return (square / 2 - log_det) / mapped[0].numel()


def _start_at_zero(layer: nn.Linear | nn.Conv1d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
