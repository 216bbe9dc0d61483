"""Tokens of a series by phase, or of a waveform without one: what the quick preset looks at."""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from chiasm.diagnosis.layers.tokens import SeriesEmbedding, sincos_1d
from chiasm.errors import ConfigurationError

# Phases of a cycle that make a token, and the values of a phase: levels of amplitude.
PHASES, LEVELS = 4, 4
# Clear pulses and excess over the floor.
KINDS = 2

TAPS = 9
# Every third of MiniROCKET's 84 kernels, dilations, and bounds of the kernels' outputs in their
# standard deviations in the recording. More of any told real waveforms apart no better.
EVERY = 3
DILATIONS = (1, 4, 16)
BOUNDS = (0.5, 2.0)
_LEAST_DEVIATION = 1e-6


class PhaseEmbedding(SeriesEmbedding):
    """Map folded pairs of cycles to one token for every four phases.

    A token holds the clear pulses and the excess over the floor of its phases (see
    ``preparation.excess``), their mean and their maximum over the pairs of the recording, whose
    number it therefore does not depend on. Attention then compares phases, in which faults differ,
    instead of seconds, in which they hardly do.

    Args:
        width: of a token, D; even.
        cycle: values of a folded cycle, a multiple of 16.
        channels: C of the series.
        length: values of a standard series.
    """

    positions: Tensor

    def __init__(
        self, *, width: int, cycle: int = 128, channels: int = 1, length: int = 153_600
    ) -> None:
        super().__init__(channels=channels, length=length)
        if cycle % (PHASES * LEVELS) or length % (KINDS * cycle):
            raise ConfigurationError(
                f"Tokens by phase take cycles of a multiple of {PHASES * LEVELS} values and series "
                f"of whole pairs of cycles, not {cycle} and {length}."
            )
        self.cycle = cycle
        self.project = nn.Linear(2 * channels * KINDS * PHASES * LEVELS, width)
        count = cycle // (PHASES * LEVELS)
        self.register_buffer("positions", sincos_1d(count, width), persistent=False)

    def forward(self, series: Tensor) -> Tensor:
        """Map ``(N, C, L)``, whole pairs of cycles, to tokens ``(N, cycle / 16, D)``.

        Raises:
            DataError: another number of channels, or not a whole number of pairs.
        """
        self.check(series, unit=KINDS * self.cycle)
        pairs = rearrange(series, "n c (r k v) -> n c r k v", k=KINDS, v=self.cycle)
        both = torch.stack([pairs.mean(dim=2), pairs.amax(dim=2)], dim=1)  # n 2 c k v
        phases = rearrange(both, "n s c k (t v) -> n t (s c k v)", v=PHASES * LEVELS)
        out: Tensor = self.project(phases) + self.positions
        return out


class KernelEmbedding(SeriesEmbedding):
    """Map a waveform to ``T / segment`` tokens: how often fixed kernels answer to it.

    The kernels are a third of MiniROCKET's: nine taps, three of which weigh 2 and the others -1, at
    three dilations. A token holds the share of its values at which a kernel's output exceeds each
    of two bounds, so that it does not matter where in the token a pulse lies. Outputs are measured
    in their own deviation in the recording, so that its gain does not matter and nothing needs to
    be fitted before training.

    Args:
        width: of a token, D; even.
        segment: values a token.
        channels: C of the series.
        length: values of a standard series.

    References:
        Dempster, Schmidt, Webb, MiniRocket, KDD 2021.
    """

    kernels: Tensor
    positions: Tensor

    def __init__(
        self, *, width: int, segment: int = 256, channels: int = 1, length: int = 153_600
    ) -> None:
        super().__init__(channels=channels, length=length)
        if segment < 1 or length % segment:
            raise ConfigurationError(
                f"A series of {length} values does not divide into segments of {segment}."
            )
        self.segment = segment
        raised = list(combinations(range(TAPS), 3))[::EVERY]
        kernels = torch.full((len(raised), 1, TAPS), -1.0)
        for row, taps in enumerate(raised):
            kernels[row, 0, list(taps)] = 2.0
        self.register_buffer("kernels", kernels, persistent=False)
        features = channels * len(DILATIONS) * len(BOUNDS) * len(raised)
        # Of each feature over the recordings: rare answers tell as much as frequent ones.
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.project = nn.Linear(features, width)
        count = length // segment
        self.register_buffer("positions", sincos_1d(count, width), persistent=False)

    def forward(self, series: Tensor) -> Tensor:
        """Map ``(N, C, L)`` to tokens ``(N, L / segment, D)``.

        Raises:
            DataError: another number of channels, or not a whole number of segments.
        """
        self.check(series, unit=self.segment)
        with torch.no_grad():  # one channel at a time: the answers are many times larger
            values = rearrange(series.float(), "n c l -> (n c) l")
            shares = torch.stack([self._shares(channel) for channel in values])  # (n c) f t
        features = rearrange(shares, "(n c) f t -> n (c f) t", c=self.channels)
        # The square root of a share varies equally much wherever it lies.
        tokens = self._standardised(features.sqrt()).transpose(1, 2)
        out: Tensor = self.project(tokens.to(self.project.weight.dtype))
        return out + self.place(tokens.shape[1], self.positions)

    def _standardised(self, features: Tensor) -> Tensor:
        """Return features ``(N, F, T)`` at mean 0 and deviation 1 over the recordings."""
        if self.training:
            out: Tensor = self.norm(features)
            return out
        # Spelled out: exported graphs hold no batch norms.
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None and variance is not None
        return (features - mean[:, None]) / (variance[:, None] + self.norm.eps).sqrt()

    def _shares(self, values: Tensor) -> Tensor:
        """Return the shares ``(features / C, T)`` of one channel ``(L,)``."""
        values = values - values.mean()
        shares = []
        for dilation in DILATIONS:
            answers = F.conv1d(
                values[None, None], self.kernels, padding=dilation * (TAPS // 2), dilation=dilation
            )[0]
            deviation = answers.square().mean(dim=1, keepdim=True).sqrt() + _LEAST_DEVIATION
            for bound in BOUNDS:
                above = (answers > bound * deviation).to(answers.dtype)
                shares.append(above.unflatten(1, (-1, self.segment)).mean(dim=2))
        return torch.cat(shares)
