"""Affine coupling flows over tokens: invertible, with a known log-determinant.

References:
    Dinh et al., Density Estimation using Real NVP, ICLR 2017.
    MAD, Section 3.B: three couplings for the picture's tokens, five causal ones for the series'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.errors import ConfigurationError

FlowState = tuple[Tensor, ...]
Flow = Literal["coupling", "identity"]


class TokenConditioner(nn.Module):
    """Scale and shift from the constant half of the token: Linear-GELU-Linear.

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
        """Map ``(N, T, D/2)`` to raw scale and shift ``(N, T, D)``; ``past`` is empty."""
        out: Tensor = self.contract(F.gelu(self.expand(constant)))
        return out


class CausalConditioner(nn.Module):
    """Scale and shift from the constant halves of this token and the k - 1 before it.

    Conv1d of size k, GELU, Conv1d of size 1. Zeros precede the series.

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
        context = torch.cat([past, constant], dim=1).transpose(1, 2)  # (N, D/2, k - 1 + T)
        out: Tensor = self.contract(F.gelu(self.expand(context))).transpose(1, 2)
        return out


class AffineCoupling(nn.Module):
    """One half of the channels is constant and determines scale and shift of the other half.

    ``y_a = x_a`` and ``y_b = x_b * exp(s) + t`` with ``s = 2 tanh(raw / 2)``. A fixed permutation
    selects the halves and is undone afterwards, so that an untrained layer is the identity.

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
        """Map ``(N, T, D)`` to the same shape, the log-determinant ``(N,)`` and the new past."""
        constant, changed = x[..., self.permutation].chunk(2, dim=-1)
        past = self._past(constant, past)
        scale, shift = self._affine(constant, past)
        changed = (changed.float() * scale.exp() + shift).to(x.dtype)
        y = torch.cat([constant, changed], dim=-1)[..., self.order]
        return y, scale.sum(dim=(1, 2)), self._next_past(past, constant)

    def inverse(self, y: Tensor) -> Tensor:
        """Invert ``forward`` for ``(N, T, D)`` from the beginning of the series."""
        constant, changed = y[..., self.permutation].chunk(2, dim=-1)
        scale, shift = self._affine(constant, self._past(constant, None))
        changed = ((changed.float() - shift) * (-scale).exp()).to(y.dtype)
        return torch.cat([constant, changed], dim=-1)[..., self.order]

    def _affine(self, constant: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        # Always in float32: the exponential of a rounded scale is not invertible.
        raw, shift = self.conditioner(constant, past).float().chunk(2, dim=-1)
        return 2 * torch.tanh(raw / 2), shift

    def _past(self, constant: Tensor, past: Tensor | None) -> Tensor:
        if past is not None:
            return past
        count, _, half = constant.shape
        return constant.new_zeros(count, self.conditioner.memory, half)

    def _next_past(self, past: Tensor, constant: Tensor) -> Tensor:
        context = torch.cat([past, constant], dim=1)
        return context[:, context.shape[1] - self.conditioner.memory :]


class CouplingFlow(nn.Module):
    """A sequence of couplings.

    Args:
        couplings: in the order of the forward direction.
    """

    def __init__(self, couplings: Sequence[AffineCoupling]) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(couplings)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens ``(N, T, D)`` to the same shape and the log-determinant ``(N,)`` in nats."""
        mapped, log_det, _ = self.stream(tokens)
        return mapped, log_det

    def inverse(self, mapped: Tensor) -> Tensor:
        """Return the tokens ``(N, T, D)`` that ``forward`` maps to these."""
        for coupling in reversed(self.couplings):
            # ModuleList hides the type of its members.
            mapped = coupling.inverse(mapped)  # type: ignore[operator]
        return mapped

    def stream(
        self, tokens: Tensor, state: FlowState | None = None
    ) -> tuple[Tensor, Tensor, FlowState]:
        """Map the next piece ``(N, t, D)`` of a series' tokens.

        The state holds, for each coupling, the constant halves of the last k - 1 tokens; it is
        None at the beginning. The log-determinants of the pieces add up to that of the series.
        """
        log_det = tokens.new_zeros(len(tokens), dtype=torch.float32)
        pasts = []
        for coupling, past in zip(self.couplings, state or (None,) * len(self.couplings)):
            tokens, log_det_of_coupling, next_past = coupling(tokens, past)
            log_det = log_det + log_det_of_coupling
            pasts.append(next_past)
        return tokens, log_det, tuple(pasts)


class IdentityFlow(nn.Module):
    """The identity: the ablation of the flow."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens ``(N, T, D)`` and log-determinants ``(N,)`` of 0."""
        return tokens, tokens.new_zeros(len(tokens), dtype=torch.float32)

    def inverse(self, mapped: Tensor) -> Tensor:
        """Return the tokens."""
        return mapped


def image_flow(*, width: int, hidden: int, couplings: int = 3, seed: int = 0) -> CouplingFlow:
    """Build a flow that maps each token independently."""
    return CouplingFlow(
        [
            AffineCoupling(TokenConditioner(half=width // 2, hidden=hidden), permutation=order)
            for order in channel_permutations(width, couplings, seed=seed)
        ]
    )


def signal_flow(
    *, width: int, hidden: int, couplings: int = 5, kernel: int = 3, seed: int = 1
) -> CouplingFlow:
    """Build a causal flow: a token depends on itself and earlier ones, so it can be streamed."""
    return CouplingFlow(
        [
            AffineCoupling(
                CausalConditioner(half=width // 2, hidden=hidden, kernel=kernel), permutation=order
            )
            for order in channel_permutations(width, couplings, seed=seed)
        ]
    )


FLOWS = {"image": image_flow, "series": signal_flow}


def check_flow(flow: str) -> None:
    """Raise ``ConfigurationError`` if there is no such kind of flow."""
    if flow not in get_args(Flow):
        raise ConfigurationError(f"flow must be 'coupling' or 'identity', not {flow!r}.")


def channel_permutations(width: int, count: int, *, seed: int) -> list[Tensor]:
    """Draw one permutation ``(width,)`` for each coupling, reproducible by the seed.

    Every second one swaps the halves of the previous one, so that each pair of couplings changes
    every channel once; three independent draws would leave an eighth of the channels unchanged.
    """
    if width % 2:
        raise ConfigurationError(f"A coupling halves the channels; {width} is odd.")
    generator = np.random.default_rng(seed)
    firsts = [generator.permutation(width) for _ in range(0, count, 2)]
    orders = [order for first in firsts for order in (first, np.roll(first, width // 2))]
    return [torch.tensor(order.tolist()) for order in orders[:count]]


def flow_nll(mapped: Tensor, log_det: Tensor) -> Tensor:
    """Compute the negative log-likelihood ``(N,)`` under a standard normal.

    In nats per token and channel: ``[||z||^2 / 2 - log_det] / (T D)`` for ``z`` of shape
    ``(N, T, D)``, without the constant ``log(2 pi) / 2``.
    """
    square = mapped.float().square().sum(dim=(1, 2))
    return (square / 2 - log_det) / mapped[0].numel()


def _start_at_zero(layer: nn.Linear | nn.Conv1d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
