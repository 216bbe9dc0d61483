"""Pulse lists and counts of pulses, as a series by phase and as a picture of the pattern."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.discharge import Array, Pulses
from chiasm.errors import DataError
from chiasm.samples import FloatArray

ROWS = 128  # levels of amplitude of a pattern that is counted here
_SIDE = 256  # of a picture, pixels
_SHADES = (28, 232)  # of the colour map: its ends cannot be told from the ground


def series_of(pulses: Pulses, *, frequency: float, cycle: int = CYCLE) -> FloatArray:
    """Return the largest pulse in each bin of the phase of every mains cycle.

    Args:
        pulses: with their times.
        frequency: of the mains, Hz.
        cycle: bins to a mains cycle.

    Returns:
        ``(1, cycles * cycle)`` float32, signed, 0 where there is no pulse.

    Raises:
        DataError: there is no time, no pulse, or one without a finite number.
    """
    if pulses.time is None:
        raise DataError("The pulses have no times, so that there is no series of them.")
    share = np.mod(pulses.phase, 360.0) / 360.0
    if not len(share) or not np.isfinite([pulses.time, pulses.amplitude, share]).all():
        raise DataError("The list has no pulse, or one whose time, phase or amplitude is missing.")
    # Time gives the number of the cycle, phase the place in it: rounding must not move a pulse
    # near 0 degrees into another cycle.
    number = np.rint((pulses.time - pulses.time.min()) * frequency - share).astype(np.int64)
    number -= number.min()
    place = number * cycle + np.minimum((share * cycle).astype(np.int64), cycle - 1)
    series = np.zeros((int(number.max()) + 1) * cycle, np.float64)
    order = np.argsort(np.abs(pulses.amplitude), kind="stable")
    series[place[order]] = pulses.amplitude[order]  # the largest is written last
    return series.astype(np.float32)[None]


def pattern_of(pulses: Pulses, *, rows: int = ROWS, phases: int = CYCLE) -> NDArray[np.int64]:
    """Count pulses by amplitude and phase.

    Returns:
        ``(rows, phases)``; the last row is amplitude 0, or, of signed pulses, the largest negative
        one, and the first row the largest.
    """
    largest = float(np.abs(pulses.amplitude).max(initial=0.0)) or 1.0
    low = -largest if (pulses.amplitude < 0).any() else 0.0
    level = (pulses.amplitude - low) / (largest - low)
    row = rows - 1 - np.minimum((level * rows).astype(np.int64), rows - 1)
    column = np.minimum((np.mod(pulses.phase, 360.0) / 360.0 * phases).astype(np.int64), phases - 1)
    weights = None if pulses.count is None else pulses.count
    counts = np.bincount(row * phases + column, weights=weights, minlength=rows * phases)
    return np.rint(counts).astype(np.int64).reshape(rows, phases)


def pattern_picture(counts: NDArray[np.integer] | Array) -> FloatArray:
    """Draw a pattern of counts, dots of the logarithm on white, as instruments do.

    Args:
        counts: ``(A, P)`` by amplitude, the largest first, and by phase from 0 to 360 degrees.

    Returns:
        ``(256, 256, 3)`` float32 in [0, 1].
    """
    counts = np.asarray(counts, np.float64)
    depth = np.log1p(counts) / max(float(np.log1p(counts.max(initial=0))), 1e-9)
    shade = np.rint(_SHADES[0] + depth * (_SHADES[1] - _SHADES[0])).astype(np.uint8)
    colours = cv2.applyColorMap(shade, cv2.COLORMAP_JET)[..., ::-1]
    picture = np.where(counts[..., None] > 0, colours, np.uint8(255))
    # A dot stays a dot: neighbours are not blended.
    sized = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(sized, np.float32) / np.float32(255)


_LEAST_LAG, _MOST_LAG, _LEAST_PAIRS = 0.04, 1.0, 20  # seconds, seconds, pairs of pulses


def phase_agreement(phase: Array, time: Array, *, frequency: float) -> float | None:
    """Return how well phases agree with times at a mains frequency.

    Two pulses that are ``t`` apart differ in phase by ``360 f t``. The mean cosine of what is left
    is 1 where all agree, and about 0 at another frequency or of times in another unit.

    Args:
        phase: ``(N,)`` degrees.
        time: ``(N,)`` seconds.
        frequency: of the mains, Hz.

    Returns:
        In [-1, 1]; None where fewer than 20 pairs of pulses are 0.04 to 1 s apart.
    """
    order = np.argsort(time, kind="stable")
    time, phase = time[order], phase[order]
    later = np.searchsorted(time, time + _LEAST_LAG)
    first = np.flatnonzero(later < len(time))
    second = later[first]
    lag = time[second] - time[first]
    near = lag <= _MOST_LAG
    if int(near.sum()) < _LEAST_PAIRS:
        return None
    left = np.radians(phase[second] - phase[first]) - 2 * np.pi * frequency * lag
    return float(np.cos(left[near]).mean())


def in_bins(values: FloatArray, *, rate: float, frequency: float, cycle: int = CYCLE) -> FloatArray:
    """Return a sampled signal as the extreme value in each bin of the phase of the mains.

    For rates that are no multiple of the mains frequency.

    Args:
        values: ``(C, T)``.
        rate: values a second.
        frequency: of the mains, Hz.
        cycle: bins to a mains cycle.

    Returns:
        ``(C, cycles * cycle)`` float32 of whole cycles: of the values in a bin the one that is
        farthest from the channel's median; a bin without any has its neighbour's.

    Raises:
        DataError: the signal is shorter than a mains cycle.
    """
    cycles = int(values.shape[1] * frequency / rate + 1e-6)
    if cycles < 1:
        raise DataError(
            f"The series lasts {1000 * values.shape[1] / rate:.3g} ms, less than a cycle of "
            f"{frequency:g} Hz: its phase says nothing. Record longer, give the frequency that "
            "the signal has, or name no sample_rate and train with phase=none."
        )
    total = cycles * cycle
    bins = np.minimum(
        (np.arange(values.shape[1]) * (frequency * cycle / rate)).astype(np.int64), total
    )
    kept = bins < total
    out = np.empty((len(values), total), np.float32)
    for channel, signal in enumerate(values):
        signal, place = signal[kept], bins[kept]
        order = np.argsort(np.abs(signal - np.median(signal)), kind="stable")
        filled = np.full(total, np.nan, np.float32)
        filled[place[order]] = signal[order]
        known = np.flatnonzero(~np.isnan(filled))
        nearest = known[np.minimum(np.searchsorted(known, np.arange(total)), len(known) - 1)]
        out[channel] = filled[nearest]
    return out
