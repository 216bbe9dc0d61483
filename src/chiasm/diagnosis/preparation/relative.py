"""Amplitudes and phase relative to the recording's own discharges.

Sensors in the field are rarely calibrated, and those for UHF cannot be (IEC TS 62478): the ratio of
amplitudes depends on the fault, the amplitude in counts on the path between fault and sensor.

A monitoring unit often takes its phase from the nearest socket, which may be another conductor's.
Rolling views by any angle teaches a network to ignore the phase; rolling every pattern to its own
reference phase keeps the phases of its parts relative to each other.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import FloatArray

# Standard deviations of the noise floor above which a value is a pulse.
_CLEAR = 5.0

# From the median of absolute deviations to the standard deviation of a normal law.
MAD_TO_SIGMA = 1.4826

# Neighbouring values in a cell of phase, and levels of amplitude in a cell: equal, so that the
# length does not change.
GROUP = 4

# Centres of the levels, in octaves from the mean pulse.
_CENTRES = (-1.5, -0.5, 0.5, 1.5)

# Colours nearer to the ground are lines of the instrument, not dots.
_DOT = 0.45

# Share of the phases at which a row of the noise floor has dots.
_FLOOR_SHARE = 0.6

# Mean height of the pulses after stretching, as a share of the picture; limits of the factor.
_MEAN_HEIGHT = 0.35
_STRETCH = (0.5, 6.0)


def floor_deviation(above: FloatArray, least: float) -> FloatArray:
    """Return the robust standard deviation ``(C, 1)`` of the noise floor.

    Args:
        above: ``(C, L)`` values above the quiet level, in any unit.
        least: added to it, same unit: the deviation of rounding.
    """
    deviation = np.median(np.abs(above[:, ::7]), axis=1, keepdims=True)
    return np.asarray(MAD_TO_SIGMA * deviation + least, dtype=np.float32)


def relative_series(above: FloatArray, floor: FloatArray) -> FloatArray:
    """Count pulses by phase and by their size relative to the mean pulse.

    Each group of four neighbouring values becomes four counts, of its pulses at about 0.35, 0.7,
    1.4 and 2.8 times the mean pulse; a pulse in between counts for two levels. A linear map of a
    token followed by a mean over tokens then has the information of a phase-resolved pattern. From
    the values themselves it has not: few large and many small values have the same sum.

    Args:
        above: ``(C, L)`` values above the quiet level, in any unit.
        floor: ``(C, 1)`` of ``floor_deviation``.

    Returns:
        ``(C, L)`` float32, counts in [0, 4]; 0 in an incomplete last group.
    """
    channels = len(above)
    channel, index = np.nonzero(above > np.float32(_CLEAR) * floor)
    height = above[channel, index]
    pulses = np.bincount(channel, minlength=channels)
    mean = np.bincount(channel, weights=height, minlength=channels) / np.maximum(pulses, 1)
    whole = index < above.shape[1] // GROUP * GROUP
    channel, index, height = channel[whole], index[whole], height[whole]
    cells = np.zeros(above.shape, dtype=np.float32)
    octave = np.log2(height / mean[channel])
    level = np.clip(octave - _CENTRES[0], 0, GROUP - 1)
    lower = np.minimum(level.astype(np.int64), GROUP - 2)
    first = index - index % GROUP + lower
    share = (level - lower).astype(np.float32)
    np.add.at(cells, (channel, first), 1 - share)
    np.add.at(cells, (channel, first + 1), share)
    return cells


def folded_cycles(cells: FloatArray, *, cycle: int, fold: int, least: int = 1) -> FloatArray:
    """Add up neighbouring cycles of a series of counts, on a logarithmic scale.

    Each run of ``fold`` cycles becomes one, so that a whole recording takes fewer tokens than an
    excerpt: rare pulses accumulate, and the phase is kept.

    Args:
        cells: ``(C, L)`` counts as of ``relative_series``.
        cycle: values to a mains cycle.
        fold: cycles that become one; an incomplete run at the end is left out.
        least: smallest number of runs; in a series that is too short, fewer cycles make a run,
            whose sum is scaled to that of ``fold`` cycles.

    Returns:
        ``(C, runs * cycle)`` float32, ``log(1 + n)`` of the sums.
    """
    cycles = cells.shape[1] // cycle
    together = min(fold, max(1, cycles // least))
    runs = cycles // together
    sums = cells[:, : runs * together * cycle].reshape(len(cells), runs, together, cycle)
    return np.log1p(sums.sum(axis=2).reshape(len(cells), runs * cycle) * (fold / together))


def relative_picture(ink: FloatArray, *, aligned: bool = False, dots: bool = False) -> FloatArray:
    """Stretch a picture so that its pulses have a common mean height.

    The noise floor, the lowest band with dots at most phases, moves to the lower edge.

    Args:
        ink: ``(H, W, 3)`` distance from the ground's colour, in [0, 1]; amplitude grows upwards.
        aligned: also roll its pulses to their reference phase (see ``phase_reference``).
        dots: return 1 in all three channels at dots, else 0.

    Returns:
        The same shape; a picture without pulses only moves down.
    """
    height, width = ink.shape[:2]
    is_dot = np.maximum(np.maximum(ink[..., 0], ink[..., 1]), ink[..., 2]) > _DOT
    if dots:
        ink = np.repeat(is_dot[..., None], 3, axis=2).astype(np.float32)
    share = is_dot.mean(axis=1)
    floor_rows = np.flatnonzero(share > 0.5)
    if not floor_rows.size:
        return ink
    bottom = int(floor_rows[-1])
    top = bottom
    while top > 0 and share[top - 1] >= _FLOOR_SHARE:
        top -= 1
    # The floor thins out upwards: the pulses begin a little above it.
    begin = max(0, top - max(2, (bottom - top) // 2))
    rows = is_dot[:begin].sum(axis=1)
    factor = 1.0
    if rows.sum() >= width // 8:
        mean = float((rows * (bottom - np.arange(begin))).sum() / rows.sum())
        factor = float(np.clip(_MEAN_HEIGHT * height / mean, *_STRETCH))
    move = np.array([[1, 0, 0], [0, factor, height - 1 - factor * bottom]])
    stretched = np.asarray(
        cv2.warpAffine(ink, move, (width, height), flags=cv2.INTER_NEAREST), dtype=np.float32
    )
    return aligned_picture(stretched, is_dot[:begin].sum(axis=0)) if aligned else stretched


# Below this share of the second harmonic, the first one is too weak for a reference.
_LEAST_FIRST = 0.5


def phase_reference(weights: NDArray[np.floating]) -> float:
    """Return the phase at which a pattern is centred, as a share of a cycle in [0, 1).

    If one half of the cycle outweighs the other (corona), that is the angle of the first harmonic.
    If both are alike (discharges of a void, twice a cycle), it is the angle of the second harmonic,
    and of its two values the one on the heavier side.

    Args:
        weights: ``(P,)`` non-negative weights of P phases.

    Returns:
        0 if all weights are 0. Rolling the pattern by ``r`` of a cycle adds ``r``.
    """
    turns = np.exp(2j * np.pi * np.arange(len(weights)) / len(weights))
    first, second = complex(weights @ turns), complex(weights @ turns**2)
    if abs(first) > _LEAST_FIRST * abs(second):
        angle = float(np.angle(first))
    elif abs(second) > 0:
        angle = float(np.angle(second)) / 2
        if (first * np.exp(-1j * angle)).real < 0:
            angle += np.pi
    else:
        return 0.0
    return angle / (2 * np.pi) % 1.0


def aligned_series(cells: NDArray[np.float32], *, cycle: int, step: int) -> NDArray[np.float32]:
    """Roll a series ``(C, L)`` of counts so that its reference phase becomes 0.

    Args:
        cells: counts; every channel is rolled alike.
        cycle: values to a mains cycle.
        step: values in a group; the roll is a multiple of them.
    """
    whole = cells.shape[1] // cycle * cycle
    if not whole or cycle % step:
        return cells
    by_phase = cells[:, :whole].reshape(-1, cycle).sum(axis=0)
    groups = np.log1p(by_phase.reshape(-1, step).sum(axis=1))
    return np.roll(cells, -round(phase_reference(groups) * len(groups)) * step, axis=1)


def aligned_picture(ink: NDArray[np.float32], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Roll a picture ``(H, W, 3)`` of one cycle so that its reference phase is at the left edge.

    Args:
        ink: the picture.
        weights: ``(W,)`` pulses in each column.
    """
    reference = phase_reference(np.log1p(weights))
    return np.roll(ink, -round(reference * ink.shape[1]), axis=1)
