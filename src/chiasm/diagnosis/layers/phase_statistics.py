"""The phase-resolved pattern of a series, and its statistical operators.

References:
    Gulski, Kreuger, Computer-Aided Recognition of Discharge Sources, IEEE Transactions on
    Electrical Insulation 27(1), 1992: distributions over phase and their operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

PHASES = 32
LEVELS = 12
# Minimum height of a pulse above the background, in standard deviations of the background.
_PULSE_DEVIATIONS = 5.0
_MAD_TO_SIGMA = 1.4826
OPERATORS = 24


def folded_histogram(series: Tensor, *, cycle: int) -> Tensor:
    """Count pulses by phase and by size relative to the recording's mean pulse.

    Args:
        series: ``(N, C, T)`` amplitudes in any unit; counts are summed over channels.
        cycle: values per mains cycle, at least ``PHASES``.

    Returns:
        ``(N, PHASES, LEVELS)`` shares of all pulses; levels are half octaves, beginning at an
        eighth of the mean pulse. 0 for a recording without pulses.
    """
    count = len(series)
    whole = series.shape[-1] // cycle * cycle
    values = series[..., :whole].reshape(count, -1, cycle)  # n c (k p) -> n (c k) p
    above, is_pulse = _pulses(values)
    mean = (above * is_pulse).sum(dim=(1, 2)) / is_pulse.sum(dim=(1, 2)).clamp(min=1)
    octave = torch.log2((above / mean.clamp(min=1e-9)[:, None, None]).clamp(min=2**-3))
    level = ((octave + 3) * 2).long().clamp(0, LEVELS - 1)
    phase = (torch.arange(cycle, device=series.device) * PHASES // cycle).expand_as(level)
    recording = torch.arange(count, device=series.device)[:, None, None].expand_as(level)
    index = (recording * PHASES + phase) * LEVELS + level
    counts = torch.bincount(index[is_pulse], minlength=count * PHASES * LEVELS).float()
    pattern = counts.view(count, PHASES, LEVELS)
    return pattern / pattern.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def statistical_operators(series: Tensor, *, cycle: int) -> Tensor:
    """Compute the operators ``(N, OPERATORS)`` of the distributions over phase.

    For each half cycle and three distributions over its phases (number of pulses, mean and
    maximum size): skewness, kurtosis and number of peaks. For each distribution between the
    halves: asymmetry of their sums, cross-correlation and modified cross-correlation.

    Args:
        series: ``(N, C, T)`` amplitudes.
        cycle: values per mains cycle.
    """
    count = len(series)
    whole = series.shape[-1] // cycle * cycle
    above, is_pulse = _pulses(series[..., :whole].reshape(count, -1, cycle))
    group = cycle // PHASES
    used = PHASES * group
    above, is_pulse = above[..., :used], is_pulse[..., :used]
    scale = (above * is_pulse).sum(dim=(1, 2)) / is_pulse.sum(dim=(1, 2)).clamp(min=1)
    size = (above * is_pulse) / scale.clamp(min=1e-9)[:, None, None]
    number = is_pulse.float().sum(dim=1).view(count, PHASES, group).sum(dim=2)
    mean = size.sum(dim=1).view(count, PHASES, group).sum(dim=2) / number.clamp(min=1)
    largest = size.amax(dim=1).view(count, PHASES, group).amax(dim=2)
    operators = []
    for distribution in (number, mean, largest):
        first, second = distribution.chunk(2, dim=1)
        for half in (first, second):
            operators += [*_shape(half), _peaks(half)]
        sums = first.sum(dim=1), second.sum(dim=1)
        asymmetry = torch.minimum(*sums) / torch.maximum(*sums).clamp(min=1e-9)
        correlation = _correlation(first, second)
        if distribution is number:
            operators += [asymmetry, correlation]
        else:
            operators += [asymmetry, correlation * asymmetry]
    return torch.stack(operators, dim=1)


def _pulses(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the heights above the background, and which of them are pulses ``(N, K, P)``."""
    sampled = values.flatten(1)[:, ::7]
    background = sampled.median(dim=1).values[:, None, None]
    deviation = (sampled - background[:, 0]).abs().median(dim=1).values[:, None, None]
    above = values - background
    # The median deviation of rounded values can be 0; a share of the range replaces it.
    minimum = 0.002 * above.flatten(1).amax(dim=1)[:, None, None].clamp(min=1e-9)
    return above, above > _PULSE_DEVIATIONS * (_MAD_TO_SIGMA * deviation + minimum)


def _shape(half: Tensor) -> tuple[Tensor, Tensor]:
    """Return skewness and excess kurtosis ``(N,)`` of distributions over phase ``(N, P)``."""
    weight = half / half.sum(dim=1, keepdim=True).clamp(min=1e-9)
    phase = torch.arange(half.shape[1], device=half.device, dtype=half.dtype)
    mean = (weight * phase).sum(dim=1, keepdim=True)
    variance = (weight * (phase - mean) ** 2).sum(dim=1)
    varies = variance > 1e-9
    deviation = variance.clamp(min=1e-9).sqrt()[:, None]
    third = (weight * ((phase - mean) / deviation) ** 3).sum(dim=1)
    fourth = (weight * ((phase - mean) / deviation) ** 4).sum(dim=1) - 3
    return torch.where(varies, third, 0), torch.where(varies, fourth, 0)


def _peaks(half: Tensor) -> Tensor:
    """Count the local maxima ``(N,)``."""
    padded = torch.nn.functional.pad(half, (1, 1), value=-1.0)
    peak = (padded[:, 1:-1] > padded[:, :-2]) & (padded[:, 1:-1] >= padded[:, 2:])
    return (peak & (half > 0)).sum(dim=1).float()


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return the Pearson correlation ``(N,)`` of two halves; 0 if one is constant."""
    a = first - first.mean(dim=1, keepdim=True)
    b = second - second.mean(dim=1, keepdim=True)
    size = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(size > 1e-9, (a * b).sum(dim=1) / size.clamp(min=1e-9), 0)
