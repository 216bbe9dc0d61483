"""Count how often the signal passes a level at each phase, to find pulses within the noise floor.

Near inception, or far from the sensor, most pulses are no higher than the noise floor, and a count
of clear pulses misses them. But noise does not depend on the phase: if a level of the floor is
passed more often at some phases than at most, discharges pass it there.
"""

from __future__ import annotations

import math

import numpy as np

from chiasm.diagnosis.preparation.relative import GROUP, phase_reference
from chiasm.samples import FloatArray

# In robust deviations of the floor above its median: from within the floor to clear pulses. There
# are as many levels as values in a group, so that the length does not change.
LEVELS = (0.5, 1.5, 3.0, 6.0)
assert len(LEVELS) == GROUP


def passed_levels(above: FloatArray, floor: FloatArray) -> FloatArray:
    """Count how many of four neighbouring values pass each of four levels.

    Args:
        above: ``(C, L)`` values above the quiet level, in any unit.
        floor: ``(C, 1)`` of ``floor_deviation``.

    Returns:
        ``(C, L)`` float32, in the layout of ``relative_series``; 0 in an incomplete last group.
    """
    whole = above.shape[1] // GROUP * GROUP
    bounds = floor * np.array(LEVELS, np.float32)  # (C, 4)
    cells = np.zeros(above.shape, dtype=np.float32)
    for channel, values in enumerate(above[:, :whole]):
        for level, bound in enumerate(bounds[channel]):
            passes = (values > bound).view(np.uint8).reshape(-1, GROUP)
            cells[channel, level:whole:GROUP] = (
                passes[:, 0] + passes[:, 1] + passes[:, 2] + passes[:, 3]
            )
    return cells


def phase_excess(sums: FloatArray, *, trials: int, gain: float = 1.0) -> FloatArray:
    """Return the deviation of each count from its level's median over the phases.

    Args:
        sums: ``(..., P, 4)`` counts by phase and level.
        trials: number of values that each count is of.
        gain: of the deviations, which grow with the square root of the trials.

    Returns:
        The same shape, ``sign(z) log(1 + |z|)`` of the binomial deviations ``z``.
    """
    median = np.median(sums, axis=-2, keepdims=True)
    deviation = np.sqrt(median * np.maximum(1 - median / trials, 0) + 1)
    z = np.float32(gain) * (sums - median) / deviation
    return np.asarray(np.sign(z) * np.log1p(np.abs(z)), dtype=np.float32)


def excess_reference(passed: FloatArray, *, cycle: int) -> float:
    """Return the ``phase_reference`` of the excess over the floor."""
    whole = passed.shape[1] // cycle * cycle
    sums = passed[:, :whole].reshape(-1, cycle).sum(axis=0).reshape(-1, GROUP)
    trials = GROUP * max(1, passed.size // cycle)
    return phase_reference(np.maximum(phase_excess(sums, trials=trials), 0).sum(axis=1))


def patterns(
    counts: FloatArray,
    passed: FloatArray,
    *,
    cycle: int,
    fold: int,
    least: int,
    aligned: bool,
    length_free: bool = False,
) -> FloatArray:
    """Fold a series to pairs of cycles: clear pulses by relative size, and excess over the floor.

    Args:
        counts: ``(C, L)`` of ``relative_series``.
        passed: ``(C, L)`` of ``passed_levels``.
        cycle: values to a mains cycle, a multiple of four.
        fold: cycles that become a pair.
        least: smallest number of pairs; in a series that is too short, fewer cycles make a pair,
            and their counts are scaled to those of ``fold`` cycles.
        aligned: roll both to their reference phase.
        length_free: scale the excess, too, to that of ``fold`` cycles.

    Returns:
        ``(C, 2 * runs * cycle)`` float32.
    """
    channels, cycles = len(counts), counts.shape[1] // cycle
    together = min(fold, max(1, cycles // least))
    runs = cycles // together
    shift = 0
    if aligned:
        phases = cycle // GROUP
        shift = -round(excess_reference(passed, cycle=cycle) * phases) * GROUP

    def summed(cells: FloatArray) -> FloatArray:
        by_run = cells[:, : runs * together * cycle].reshape(channels, runs, together, cycle)
        return np.roll(by_run.sum(axis=2), shift, axis=2)

    shape = (channels, runs, cycle // GROUP, GROUP)
    clear = np.log1p(summed(counts) * np.float32(fold / together))
    gain = math.sqrt(fold / together) if length_free else 1.0
    over = phase_excess(summed(passed).reshape(shape), trials=GROUP * together, gain=gain)
    pairs = np.stack([clear, over.reshape(channels, runs, cycle)], axis=2)
    return np.ascontiguousarray(pairs.reshape(channels, 2 * runs * cycle), dtype=np.float32)
