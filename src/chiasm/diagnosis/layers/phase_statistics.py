"""A series as a phase-resolved pattern, and the statistical operators that describe it.

References:
    Gulski, Kreuger, Computer-Aided Recognition of Discharge Sources, IEEE Transactions on
    Electrical Insulation 27(1), 1992: distributions over phase and their operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

PHASES = 32
LEVELS = 12
# A value is a pulse from so many deviations above the quiet level on.
_CLEAR = 5.0
_MAD_TO_SIGMA = 1.4826
OPERATORS = 24


def folded(series: Tensor, *, cycle: int) -> Tensor:
    """Counts of pulses by phase and by size relative to the recording's mean pulse.

    Args:
        series: ``(N, C, T)`` amplitudes in any unit; channels are added up.
        cycle: values to a mains cycle, at least ``PHASES``.

    Returns:
        ``(N, PHASES, LEVELS)`` shares of all pulses; levels are half octaves from an eighth of the
        mean pulse on. 0 where a recording has no pulse.
    """
    count = len(series)
    whole = series.shape[-1] // cycle * cycle
    values = series[..., :whole].reshape(count, -1, cycle)  # n c (k p) -> n (c k) p
    above, hit = _pulses(values)
    mean = (above * hit).sum(dim=(1, 2)) / hit.sum(dim=(1, 2)).clamp(min=1)
    octave = torch.log2((above / mean.clamp(min=1e-9)[:, None, None]).clamp(min=2**-3))
    level = ((octave + 3) * 2).long().clamp(0, LEVELS - 1)
    phase = (torch.arange(cycle, device=series.device) * PHASES // cycle).expand_as(level)
    recording = torch.arange(count, device=series.device)[:, None, None].expand_as(level)
    place = (recording * PHASES + phase) * LEVELS + level
    counts = torch.bincount(place[hit], minlength=count * PHASES * LEVELS).float()
    pattern = counts.view(count, PHASES, LEVELS)
    return pattern / pattern.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def statistical_operators(series: Tensor, *, cycle: int) -> Tensor:
    """Operators of the distributions over phase, for both half cycles ``(N, OPERATORS)``.

    Of each half cycle and of three distributions over its phases (number of pulses, mean and
    largest size): skewness, kurtosis and number of peaks; then, of each distribution between the
    halves: asymmetry of their sums, cross-correlation and modified cross-correlation.

    Args:
        series: ``(N, C, T)`` amplitudes.
        cycle: values to a mains cycle.
    """
    count = len(series)
    whole = series.shape[-1] // cycle * cycle
    above, hit = _pulses(series[..., :whole].reshape(count, -1, cycle))
    group = cycle // PHASES
    used = PHASES * group
    above, hit = above[..., :used], hit[..., :used]
    scale = (above * hit).sum(dim=(1, 2)) / hit.sum(dim=(1, 2)).clamp(min=1)
    size = (above * hit) / scale.clamp(min=1e-9)[:, None, None]
    number = hit.float().sum(dim=1).view(count, PHASES, group).sum(dim=2)
    mean = size.sum(dim=1).view(count, PHASES, group).sum(dim=2) / number.clamp(min=1)
    largest = size.amax(dim=1).view(count, PHASES, group).amax(dim=2)
    found = []
    for distribution in (number, mean, largest):
        first, second = distribution.chunk(2, dim=1)
        for half in (first, second):
            found += [*_shape(half), _peaks(half)]
        sums = first.sum(dim=1), second.sum(dim=1)
        least = torch.minimum(*sums) / torch.maximum(*sums).clamp(min=1e-9)
        correlation = _correlation(first, second)
        if distribution is number:
            found += [least, correlation]
        else:
            found += [least, correlation * least]
    return torch.stack(found, dim=1)


def _pulses(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values above the quiet level, and which of them are pulses ``(N, K, P)``."""
    some = values.flatten(1)[:, ::7]
    quiet = some.median(dim=1).values[:, None, None]
    deviation = (some - quiet[:, 0]).abs().median(dim=1).values[:, None, None]
    above = values - quiet
    # Rounding alone has a deviation of less than nothing: a share of the range stands for it.
    least = 0.002 * above.flatten(1).amax(dim=1)[:, None, None].clamp(min=1e-9)
    return above, above > _CLEAR * (_MAD_TO_SIGMA * deviation + least)


def _shape(half: Tensor) -> tuple[Tensor, Tensor]:
    """Skewness and excess kurtosis ``(N,)`` of distributions over phase ``(N, P)``."""
    weight = half / half.sum(dim=1, keepdim=True).clamp(min=1e-9)
    place = torch.arange(half.shape[1], device=half.device, dtype=half.dtype)
    mean = (weight * place).sum(dim=1, keepdim=True)
    variance = (weight * (place - mean) ** 2).sum(dim=1)
    there = variance > 1e-9
    deviation = variance.clamp(min=1e-9).sqrt()[:, None]
    third = (weight * ((place - mean) / deviation) ** 3).sum(dim=1)
    fourth = (weight * ((place - mean) / deviation) ** 4).sum(dim=1) - 3
    return torch.where(there, third, 0), torch.where(there, fourth, 0)


def _peaks(half: Tensor) -> Tensor:
    """Number of local maxima ``(N,)``, counted where the slope turns."""
    padded = torch.nn.functional.pad(half, (1, 1), value=-1.0)
    peak = (padded[:, 1:-1] > padded[:, :-2]) & (padded[:, 1:-1] >= padded[:, 2:])
    return (peak & (half > 0)).sum(dim=1).float()


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation ``(N,)`` of two halves; 0 where one is constant."""
    a = first - first.mean(dim=1, keepdim=True)
    b = second - second.mean(dim=1, keepdim=True)
    size = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(size > 1e-9, (a * b).sum(dim=1) / size.clamp(min=1e-9), 0)
