"""A normalising flow over feature maps: affine couplings whose nets are convolutions.

References:
    Dinh et al., Density Estimation using Real NVP, ICLR 2017; Rudolph et al., Asymmetric
    Student-Teacher Networks for Industrial Anomaly Detection, WACV 2023, Section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_CLAMP = 1.9  # largest logarithm of a scale


class ConvolutionalFlow(nn.Module):
    """Couplings ``(N, D, h, w)`` to the same shape, each position with its own Jacobian's share.

    Between couplings the channels are permuted, by a seed. Every net sees the position as well.

    Args:
        channels: D, even.
        hidden: channels within the nets.
        couplings: how many.
        position: channels of the position's encoding, a multiple of 4.
        seed: of the permutations.
    """

    def __init__(
        self, *, channels: int, hidden: int, couplings: int = 4, position: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        half = channels // 2
        self.position = position
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(half + position, hidden, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(hidden, 2 * (channels - half), 3, padding=1),
            )
            for _ in range(couplings)
        )
        for net in self.nets:  # the flow begins as the identity
            nn.init.zeros_(net[-1].weight)
            nn.init.zeros_(net[-1].bias)
        generator = torch.Generator().manual_seed(seed)
        orders = torch.stack([torch.randperm(channels, generator=generator) for _ in self.nets])
        self.register_buffer("orders", orders)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D, h, w)`` and log-determinant of each position ``(N, h, w)``."""
        where = self._where(x)
        log_det = x.new_zeros(x.shape[0], *x.shape[2:])
        for net, order in zip(self.nets, self.orders):
            x = x[:, order]
            kept, moved = x.tensor_split([x.shape[1] // 2], dim=1)
            scale, shift = self._affine(net, kept, where)
            x = torch.cat([kept, moved * scale.exp() + shift], dim=1)
            log_det = log_det + scale.sum(dim=1)
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """What ``forward`` was given."""
        where = self._where(z)
        for net, order in zip(reversed(self.nets), reversed(self.orders)):
            kept, moved = z.tensor_split([z.shape[1] // 2], dim=1)
            scale, shift = self._affine(net, kept, where)
            z = torch.cat([kept, (moved - shift) * (-scale).exp()], dim=1)[:, order.argsort()]
        return z

    def _affine(self, net: nn.Module, kept: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = net(torch.cat([kept, where], dim=1)).chunk(2, dim=1)
        return _CLAMP * 2 / math.pi * torch.atan(raw), shift

    def _where(self, x: Tensor) -> Tensor:
        return (
            position_encoding(x.shape[-2], x.shape[-1], self.position)
            .to(x)
            .expand(len(x), -1, -1, -1)
        )


def position_encoding(height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines of rows and columns ``(1, channels, height, width)``.

    Args:
        height, width: of the map.
        channels: a multiple of 4.
    """
    quarter = channels // 4
    rates = 10_000 ** (-torch.arange(quarter) / quarter)
    rows = torch.arange(height)[:, None] * rates
    columns = torch.arange(width)[:, None] * rates

    def waves(angles: Tensor) -> Tensor:
        return torch.cat([angles.sin(), angles.cos()], dim=1).T  # (l, 2q) -> (2q, l)

    down = waves(rows)[:, :, None].expand(-1, -1, width)
    across = waves(columns)[:, None, :].expand(-1, height, -1)
    return torch.cat([down, across])[None]


def position_nll(latent: Tensor, log_det: Tensor) -> Tensor:
    """Negative log-likelihood ``(N, h, w)``, nats a channel, without the normal's constant."""
    return (0.5 * latent.square().sum(dim=1) - log_det) / latent.shape[1]
