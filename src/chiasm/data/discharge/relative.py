"""Amplitudes relative to the recording's own discharges, whatever gain and scale it was made with.

Sensors in the field are rarely calibrated, and those for UHF cannot be (IEC TS 62478): how far
discharges stand above each other says what the fault is, their height in counts says what stood
between it and the sensor.
"""

from __future__ import annotations

import cv2
import numpy as np

from chiasm.samples import FloatArray

# A value is a pulse from so many standard deviations of the noise floor on.
_CLEAR = 5.0
_MAD_TO_SIGMA = 1.4826
# From an eighth of the mean pulse to eight times it, on a logarithmic scale from 0 to 3.
_OCTAVES = 3
# Colours nearer to the ground are lines of the instrument, not dots.
_DOT = 0.45
_FLOOR_SHARE = 0.6
_MEAN_HEIGHT = 0.35
_STRETCH = (0.5, 6.0)


def relative_series(above: FloatArray, least: float) -> FloatArray:
    """Pulses by their size relative to the mean pulse.

    Args:
        above: ``(C, L)`` values above the quiet level, in any unit.
        least: smallest standard deviation of the noise floor, same unit: that of rounding.

    Returns:
        ``(C, L)`` float32 in [0, 3]: 0 where there is no pulse; half a unit an octave, 1.5 being
        the mean pulse of the channel.
    """
    deviation = np.median(np.abs(above[:, ::7]), axis=1, keepdims=True)
    bound = _CLEAR * (_MAD_TO_SIGMA * deviation + least)
    hit = above > bound
    pulses = np.maximum(hit.sum(axis=1, keepdims=True), 1)
    mean = np.where(hit, above, 0).sum(axis=1, keepdims=True, dtype=np.float32) / pulses
    ratio = np.where(hit, above, 1) / np.maximum(mean, bound)
    level = np.clip((np.log2(ratio) + _OCTAVES) / 2, 0, _OCTAVES)
    return np.asarray(np.where(hit, level, 0), dtype=np.float32)


def relative_picture(ink: FloatArray) -> FloatArray:
    """Stretch a picture so that its pulses have a common mean height.

    The noise floor, the lowest band that is inked at every phase, comes to lie at the lower edge.

    Args:
        ink: ``(H, W, 3)`` distance from the ground's colour, in [0, 1]; amplitude grows upwards.

    Returns:
        The same shape; a picture without pulses only moves down.
    """
    height, width = ink.shape[:2]
    dots = ink.max(axis=2) > _DOT
    share = dots.mean(axis=1)
    inked = np.flatnonzero(share > 0.5)
    if not inked.size:
        return ink
    bottom = int(inked[-1])
    top = bottom
    while top > 0 and share[top - 1] >= _FLOOR_SHARE:
        top -= 1
    # The floor thins out upwards: the pulses begin a little above it.
    begin = max(0, top - max(2, (bottom - top) // 2))
    rows = dots[:begin].sum(axis=1)
    factor = 1.0
    if rows.sum() >= width // 8:
        mean = float((rows * (bottom - np.arange(begin))).sum() / rows.sum())
        factor = float(np.clip(_MEAN_HEIGHT * height / mean, *_STRETCH))
    move = np.array([[1, 0, 0], [0, factor, height - 1 - factor * bottom]])
    return np.asarray(
        cv2.warpAffine(ink, move, (width, height), flags=cv2.INTER_NEAREST), dtype=np.float32
    )
