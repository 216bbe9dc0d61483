"""Convolutional stages over pictures whose columns are the phases of a mains cycle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from chiasm.errors import ConfigurationError, DataError

# A series with more cycles is averaged over groups of cycles.
MAXIMUM_ROWS = 128


class PhaseConvolution(nn.Module):
    """3x3 convolution, group norm; columns wrap around, rows are padded with zeros.

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
    """Two convolutions, the first of stride 2, plus a 1x1 shortcut.

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
        residual = self.second(F.relu(self.first(picture)))
        return F.relu(residual + self.shortcut(picture))


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
        inputs_of_stages = (stem, *widths[:-1])
        self.stages = nn.ModuleList(ResidualStage(a, b) for a, b in zip(inputs_of_stages, widths))

    @property
    def depth(self) -> int:
        """The number of stages behind the stem."""
        return len(self.stages)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return the outputs of all stages for ``(N, C, H, W)``, the finest first."""
        outputs, value = [], F.relu(self.stem(picture))
        for stage in self.stages:
            value = stage(value)
            outputs.append(value)
        return outputs


def fold_cycles(series: Tensor, *, cycle: int) -> Tensor:
    """Fold a series into a picture: a row for each mains cycle, a column for each phase.

    An incomplete last cycle is removed; more than 128 cycles are averaged in groups of neighbours.

    Args:
        series: ``(N, C, T)``.
        cycle: values per mains cycle.

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
    return rows if count <= MAXIMUM_ROWS else F.adaptive_avg_pool2d(rows, (MAXIMUM_ROWS, cycle))
