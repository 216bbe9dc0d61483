"""Convolutional stages over pictures whose columns are phases of the mains, a circle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from chiasm.errors import ConfigurationError, DataError

# More cycles than this are averaged in groups before they are looked at.
MOST_ROWS = 128


class PhaseConvolution(nn.Module):
    """3x3 convolution, group norm; columns wrap around, rows end in zeros.

    Args:
        inputs, outputs: channels; ``outputs`` a multiple of 8.
        stride: of rows and columns.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=(1, 0), bias=False)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, picture: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H / stride, W / stride)``, rounded up."""
        wrapped = torch.cat([picture[..., -1:], picture, picture[..., :1]], dim=-1)
        out: Tensor = self.norm(self.convolution(wrapped))
        return out


class ResidualStage(nn.Module):
    """Two convolutions, of which the first halves rows and columns, beside a 1x1 shortcut.

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = PhaseConvolution(inputs, outputs, stride=2)
        self.second = PhaseConvolution(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, picture: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H / 2, W / 2)``, rounded up."""
        changed = self.second(F.relu(self.first(picture)))
        return F.relu(changed + self.shortcut(picture))


class PhaseStages(nn.Module):
    """A stem of stride 2 and residual stages, each of which halves rows and columns.

    Args:
        inputs: channels of the picture.
        stem: channels after the stem.
        widths: channels after each stage.
    """

    def __init__(self, inputs: int, *, stem: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = PhaseConvolution(inputs, stem, stride=2)
        before = (stem, *widths[:-1])
        self.stages = nn.ModuleList(ResidualStage(a, b) for a, b in zip(before, widths))

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Outputs of all stages for ``(N, C, H, W)``, the finest first."""
        found, value = [], F.relu(self.stem(picture))
        for stage in self.stages:
            value = stage(value)
            found.append(value)
        return found


def folded_cycles(series: Tensor, *, cycle: int) -> Tensor:
    """A series as a picture: a row for each mains cycle, a column for each phase.

    What is left over after the last whole cycle is cut off; more than 128 cycles are averaged in
    groups of neighbours.

    Args:
        series: ``(N, C, T)``.
        cycle: values to a mains cycle.

    Returns:
        ``(N, C, rows, cycle)`` with at most 128 rows.

    Raises:
        DataError: less than one cycle.
    """
    if cycle < 1:
        raise ConfigurationError(f"A mains cycle has at least one value, not {cycle}.")
    count = series.shape[-1] // cycle
    if not count:
        raise DataError(
            f"The series has {series.shape[-1]} values a channel, and a mains cycle {cycle}: "
            "record at least one."
        )
    rows = rearrange(series[..., : count * cycle], "n c (r p) -> n c r p", p=cycle)
    return rows if count <= MOST_ROWS else F.adaptive_avg_pool2d(rows, (MOST_ROWS, cycle))
