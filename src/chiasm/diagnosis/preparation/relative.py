"""Amplitudes relative to the recording's own discharges, whatever gain and scale it was made with.

Sensors in the field are rarely calibrated, and those for UHF cannot be (IEC TS 62478): how far
discharges stand above each other says what the fault is, their height in counts says what stood
between it and the sensor.

Where a pattern begins, told by the pattern itself: for recordings without a known phase.

A monitoring unit often takes its phase from the nearest socket, which may be another conductor's.
Rolling views by any angle teaches a network to disregard the phase; turning every pattern to a
place of its own keeps what the phase still says: how its parts lie to each other.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import FloatArray

# A value is a pulse from so many standard deviations of the noise floor on.
_CLEAR = 5.0

# From the median of absolute deviations to the standard deviation of a normal law.
MAD_TO_SIGMA = 1.4826

# Neighbouring values that become one cell of phase, and its levels of amplitude: as many, so that
# the length stays. Levels are centred at these octaves from the mean pulse.
GROUP = 4

_CENTRES = (-1.5, -0.5, 0.5, 1.5)

# Colours nearer to the ground are lines of the instrument, not dots.
_DOT = 0.45

_FLOOR_SHARE = 0.6

_MEAN_HEIGHT = 0.35

_STRETCH = (0.5, 6.0)


def floor_deviation(above: FloatArray, least: float) -> FloatArray:
    """The robust standard deviation ``(C, 1)`` of the noise floor.

    Args:
        above: ``(C, L)`` values above the quiet level, in any unit.
        least: smallest deviation that is believed, same unit: that of rounding.
    """
    deviation = np.median(np.abs(above[:, ::7]), axis=1, keepdims=True)
    return np.asarray(MAD_TO_SIGMA * deviation + least, dtype=np.float32)


def relative_series(above: FloatArray, floor: FloatArray) -> FloatArray:
    """Pulses counted by phase and by their size relative to the mean pulse.

    Each group of four neighbouring values becomes four counts, of its pulses at about 0.35, 0.7,
    1.4 and 2.8 times the mean pulse; one in between is shared by two. So a linear map of a token
    followed by a mean over tokens sees what a phase-resolved pattern shows, which from values
    themselves it cannot: they add up, whether large and few or small and many.

    Args:
        above: ``(C, L)`` values above the quiet level, in any unit.
        floor: ``(C, 1)`` of ``floor_deviation``.

    Returns:
        ``(C, L)`` float32, counts in [0, 4]; 0 in what is left of the last group.
    """
    channels = len(above)
    channel, place = np.nonzero(above > np.float32(_CLEAR) * floor)
    height = above[channel, place]
    pulses = np.bincount(channel, minlength=channels)
    mean = np.bincount(channel, weights=height, minlength=channels) / np.maximum(pulses, 1)
    whole = place < above.shape[1] // GROUP * GROUP
    channel, place, height = channel[whole], place[whole], height[whole]
    cells = np.zeros(above.shape, dtype=np.float32)
    octave = np.log2(height / mean[channel])
    level = np.clip(octave - _CENTRES[0], 0, GROUP - 1)
    lower = np.minimum(level.astype(np.int64), GROUP - 2)
    first = place - place % GROUP + lower
    share = (level - lower).astype(np.float32)
    np.add.at(cells, (channel, first), 1 - share)
    np.add.at(cells, (channel, first + 1), share)
    return cells


def folded_cycles(cells: FloatArray, *, cycle: int, fold: int, least: int = 1) -> FloatArray:
    """Add up neighbouring cycles of a series of counts, on a logarithmic scale.

    Each run of ``fold`` cycles becomes one, so that a network sees a whole recording in fewer
    tokens than an excerpt of it: rare pulses come together, and phase is kept.

    Args:
        cells: ``(C, L)`` counts as of ``relative_series``.
        cycle: values to a mains cycle.
        fold: cycles that become one; those left over at the end are left out.
        least: runs that are needed; of a series that is too short for them fewer cycles make a
            run, whose sum is brought to what ``fold`` cycles would have.

    Returns:
        ``(C, runs * cycle)`` float32, ``log(1 + n)`` of the sums.
    """
    there = cells.shape[1] // cycle
    together = min(fold, max(1, there // least))
    runs = there // together
    sums = cells[:, : runs * together * cycle].reshape(len(cells), runs, together, cycle)
    return np.log1p(sums.sum(axis=2).reshape(len(cells), runs * cycle) * (fold / together))


def relative_picture(ink: FloatArray, *, aligned: bool = False, dots: bool = False) -> FloatArray:
    """Stretch a picture so that its pulses have a common mean height.

    The noise floor, the lowest band that is inked at every phase, comes to lie at the lower edge.

    Args:
        ink: ``(H, W, 3)`` distance from the ground's colour, in [0, 1]; amplitude grows upwards.
        aligned: roll its pulses to a phase of their own, too (see ``phase_reference``).
        dots: return 1 in all three channels where there is a dot, else 0.

    Returns:
        The same shape; a picture without pulses only moves down.
    """
    height, width = ink.shape[:2]
    there = np.maximum(np.maximum(ink[..., 0], ink[..., 1]), ink[..., 2]) > _DOT
    if dots:
        ink = np.repeat(there[..., None], 3, axis=2).astype(np.float32)
    share = there.mean(axis=1)
    inked = np.flatnonzero(share > 0.5)
    if not inked.size:
        return ink
    bottom = int(inked[-1])
    top = bottom
    while top > 0 and share[top - 1] >= _FLOOR_SHARE:
        top -= 1
    # The floor thins out upwards: the pulses begin a little above it.
    begin = max(0, top - max(2, (bottom - top) // 2))
    rows = there[:begin].sum(axis=1)
    factor = 1.0
    if rows.sum() >= width // 8:
        mean = float((rows * (bottom - np.arange(begin))).sum() / rows.sum())
        factor = float(np.clip(_MEAN_HEIGHT * height / mean, *_STRETCH))
    move = np.array([[1, 0, 0], [0, factor, height - 1 - factor * bottom]])
    made = np.asarray(
        cv2.warpAffine(ink, move, (width, height), flags=cv2.INTER_NEAREST), dtype=np.float32
    )
    return aligned_picture(made, there[:begin].sum(axis=0)) if aligned else made


# Below this share of the second harmonic the first one says too little to turn by.
_LEAST_FIRST = 0.5


def phase_reference(weights: NDArray[np.floating]) -> float:
    """The turn, as a share of a cycle in [0, 1), at which a pattern is centred.

    Where one half of the cycle outweighs the other (corona), it is the angle of the first harmonic.
    Where both are alike (discharges of a void, twice a cycle), it is that of the second harmonic,
    and of its two answers the one on the heavier side.

    Args:
        weights: ``(P,)`` what there is at each of P phases, at least 0.

    Returns:
        0 where nothing is there. Rolling the pattern by ``r`` of a cycle adds ``r`` to it.
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
    """Roll a series ``(C, L)`` of counts so that its own reference comes to phase 0.

    Args:
        cells: counts; every channel is rolled alike.
        cycle: values to a mains cycle.
        step: the roll is a multiple of so many values, which belong together.
    """
    whole = cells.shape[1] // cycle * cycle
    if not whole or cycle % step:
        return cells
    by_phase = cells[:, :whole].reshape(-1, cycle).sum(axis=0)
    groups = np.log1p(by_phase.reshape(-1, step).sum(axis=1))
    return np.roll(cells, -round(phase_reference(groups) * len(groups)) * step, axis=1)


def aligned_picture(ink: NDArray[np.float32], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Roll a picture ``(H, W, 3)`` of one cycle so that its own reference comes to the left edge.

    Args:
        ink: the picture.
        weights: ``(W,)`` pulses in each column.
    """
    reference = phase_reference(np.log1p(weights))
    return np.roll(ink, -round(reference * ink.shape[1]), axis=1)
