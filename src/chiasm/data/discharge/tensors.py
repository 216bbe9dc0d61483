"""Recordings as what a network takes: amplitudes on one scale, whole segments, one picture size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import FloatArray

Counts = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

CLIP = 1.5
_FULL, _HIGH = 99.9, 99.0
# Coprime to usual numbers of values a cycle, so that every phase is met.
_STRIDE = 37


@dataclass(frozen=True, slots=True)
class SeriesScale:
    """What amplitudes are divided by; a scale of each recording's own would erase how strong it is.

    Attributes:
        full: counts that become 1: the 99.9th percentile of the training recordings.
        high: their 99th percentile, counts; noise is measured in it.
        clip: the largest value that is left.
    """

    full: float = 1.0
    high: float = 1.0
    clip: float = CLIP


def estimate_scale(series: Iterable[Counts | None]) -> SeriesScale:
    """The scale of some training series, each ``(C, T)``; 1 where there is none."""
    some = [one[:, ::_STRIDE].ravel() for one in series if one is not None]
    if not some:
        return SeriesScale()
    high, full = np.percentile(np.concatenate(some), (_HIGH, _FULL))
    full = float(full) if full > 0 else 1.0
    return SeriesScale(full=full, high=float(high) if high > 0 else full)


def scaled(counts: Counts, scale: SeriesScale, *, gain: float = 1.0) -> FloatArray:
    """Counts divided by the scale, as a fresh float32 array, not clipped yet."""
    return np.multiply(counts, np.float32(gain / scale.full), dtype=np.float32)


def window_length(total: int, *, per_cycle: int, segment: int, wanted: int | None = None) -> int:
    """The largest whole number of segments that are whole mains cycles, too.

    Args:
        total: values that there are.
        per_cycle: values to a mains cycle.
        segment: values to a token.
        wanted: no more than so many, but for one common multiple; None takes all that there are.

    Returns:
        At most ``total``. Where not one common multiple of segment and cycle fits, whole segments.

    Raises:
        DataError: the series is shorter than a segment.
    """
    unit = math.lcm(segment, per_cycle)
    length = min(total, max(wanted, unit) if wanted else total) // unit * unit
    length = length or total // segment * segment
    if not length:
        raise DataError(
            f"The series has {total} values a channel, and one token takes {segment}: record "
            "longer, or leave the series out."
        )
    return length


def windows(counts: Counts, length: int, *, per_cycle: int, count: int) -> list[Counts]:
    """``count`` windows ``(C, length)`` spread evenly over a series, each from a cycle's start.

    One window is the middle one. Fewer come back where the series is hardly longer.
    """
    room = (counts.shape[1] - length) // per_cycle
    if count == 1:
        places = [room // 2]
    else:
        places = [round(room * number / (count - 1)) for number in range(count)]
    return [counts[:, p * per_cycle : p * per_cycle + length] for p in dict.fromkeys(places)]


def sized(image: FloatArray, size: int) -> FloatArray:
    """The picture ``(H, W, 3)`` at ``size`` x ``size`` pixels, by area where it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = min(image.shape[:2]) >= size
    made = cv2.resize(
        image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return np.clip(made, 0, 1, dtype=np.float32)
