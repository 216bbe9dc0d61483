"""Recordings as what a network takes: amplitudes on one scale, whole segments, one picture size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.excess import passed_levels, patterns
from chiasm.diagnosis.preparation.relative import (
    GROUP,
    aligned_series,
    floor_deviation,
    folded_cycles,
    relative_picture,
    relative_series,
)
from chiasm.errors import DataError
from chiasm.samples import FloatArray

Counts = NDArray[np.uint8 | np.uint16 | np.float32]

CLIP = 1.5
_FULL, _HIGH = 99.9, 99.0
# Coprime to usual numbers of values a cycle, so that every phase is met.
_STRIDE = 37
# Series from which the scale of folded ones is estimated.
_FOLDED = 100
# Least standard deviation of a noise floor, counts.
_ROUNDING = 0.5


@dataclass(frozen=True, slots=True)
class SeriesScale:
    """What amplitudes are divided by; a scale of each recording's own would erase how strong it is.

    Attributes:
        full: counts that become 1: the 99.9th percentile of the training recordings.
        high: their 99th percentile, counts; noise is measured in it.
        clip: the largest value that is left.
        spread: None leaves it at that. Else the recording's quiet level is taken away, which says
            more of the instrument than of the fault, and the rest divided by this, the training
            recordings' standard deviation.
        relative: what is left are pulses, counted by size relative to the recording's mean pulse
            (see ``relative_series``); asks for ``spread``.
        cycle: values to a mains cycle, for what follows; None does neither.
        aligned: relative series are rolled to a phase of their own (see ``phase_reference``).
        fold: so many neighbouring cycles of a relative series become one (see ``folded_cycles``).
        least: cycles that a token takes, of which there must be as many after folding.
        excess: what is folded comes with how often levels of the noise floor are passed at each
            phase (see ``patterns``), so that ``fold`` cycles become two; asks for an even ``fold``
            and ``least``.
    """

    full: float = 1.0
    high: float = 1.0
    clip: float = CLIP
    spread: float | None = None
    relative: bool = False
    cycle: int | None = None
    aligned: bool = True
    fold: int = 1
    least: int = 1
    excess: bool = False

    @property
    def shrink(self) -> int:
        """Values of the series to one that the network takes."""
        return self.fold // 2 if self.excess else self.fold


@dataclass(frozen=True, slots=True)
class PictureScale:
    """What pictures are divided by.

    Attributes:
        spread: None leaves pictures as they are. Else they become the distance from their ground's
            colour, so that empty cells are 0 on dark and on light ground, divided by this, the
            training pictures' standard deviation.
        relative: they are stretched to a common height (see ``relative_picture``); asks for
            ``spread``.
        aligned: and rolled to a phase of their own; asks for ``relative``.
        dots: and show where there is a dot, whatever its colour, for instruments differ in their
            colours; asks for ``relative``.
        side: pictures are looked at with this side in pixels, at which dots do not run together,
            and averaged to the network's; None looks at them with the network's.
    """

    spread: float | None = None
    relative: bool = False
    aligned: bool = False
    dots: bool = False
    side: int | None = None


def estimate_scale(
    series: Iterable[Counts | None],
    *,
    standardised: bool = False,
    relative: bool = False,
    cycle: int | None = None,
    aligned: bool = True,
    fold: int = 1,
    least: int = 1,
    excess: bool = False,
) -> SeriesScale:
    """The scale of some training series, each ``(C, T)``; 1 where there is none."""
    whole = [one for one in series if one is not None]
    form = SeriesScale(
        spread=1.0,
        relative=relative,
        cycle=cycle,
        aligned=aligned,
        fold=fold,
        least=least,
        excess=excess,
    )
    if not whole:
        return form if standardised else replace(form, spread=None)
    some = [one[:, ::_STRIDE] for one in whole]
    high, full = np.percentile(np.concatenate([one.ravel() for one in some]), (_HIGH, _FULL))
    full = float(full) if full > 0 else 1.0
    scale = SeriesScale(full=full, high=float(high) if high > 0 else full)
    if not standardised:
        return scale
    above = replace(form, full=scale.full, high=scale.high)
    if fold > 1:  # what is added up depends on how much there is
        some = whole[:: max(1, len(whole) // _FOLDED)]
    elif relative:  # neighbours belong together
        some = [one[:, : max(len(one[0]) // _STRIDE, 1)] for one in whole]
    values = np.concatenate([finished(scaled(one, scale), above).ravel() for one in some])
    return replace(above, spread=float(values.std()) or 1.0)


def estimate_picture_scale(
    images: Iterable[FloatArray | None],
    size: int,
    *,
    relative: bool = False,
    aligned: bool = False,
    dots: bool = False,
    side: int | None = None,
) -> PictureScale:
    """The scale of some training pictures, to standardise them at ``size`` x ``size`` pixels."""
    raw = PictureScale(spread=1.0, relative=relative, aligned=aligned, dots=dots, side=side)
    some = (network_image(inked(one, size, raw), size, raw) for one in images if one is not None)
    squares = [np.square(one).mean() for one in some]
    return replace(raw, spread=float(np.sqrt(np.mean(squares))) or 1.0 if squares else 1.0)


def scaled(counts: Counts, scale: SeriesScale, *, gain: float = 1.0) -> FloatArray:
    """Counts divided by the scale, as a fresh float32 array; not clipped nor standardised yet."""
    return np.multiply(counts, np.float32(gain / scale.full), dtype=np.float32)


def finished(values: FloatArray, scale: SeriesScale) -> FloatArray:
    """Scaled values ``(C, L)``, clipped and, where the scale says so, standardised or relative.

    Folded ones come back shorter by that factor. ``values`` may be overwritten.
    """
    if scale.relative:
        values -= quiet_level(values)
        values = _pulses(values, scale)
    else:
        np.clip(values, 0, scale.clip, out=values)
        if scale.spread is not None:
            values -= quiet_level(values)
    if scale.spread is not None:
        values *= np.float32(1 / scale.spread)
    return values


def _pulses(above: FloatArray, scale: SeriesScale) -> FloatArray:
    """Values above the quiet level as counts of pulses, aligned and folded as the scale says."""
    floor = floor_deviation(above, _ROUNDING / scale.full)
    counts = relative_series(above, floor)
    if scale.cycle is None:
        return counts
    if scale.excess:
        return patterns(
            counts,
            passed_levels(above, floor),
            cycle=scale.cycle,
            fold=scale.fold,
            least=scale.least // 2,
            aligned=scale.aligned,
        )
    if scale.aligned:
        counts = aligned_series(counts, cycle=scale.cycle, step=GROUP)
    if scale.fold > 1:
        counts = folded_cycles(counts, cycle=scale.cycle, fold=scale.fold, least=scale.least)
    return counts


def quiet_level(values: FloatArray) -> FloatArray:
    """The level ``(C, 1)`` between pulses: the median of some values ``(C, L)``."""
    return np.asarray(np.median(values[:, ::7], axis=1, keepdims=True), dtype=np.float32)


def inked(image: FloatArray, size: int, scale: PictureScale) -> FloatArray:
    """The picture as it is, or its distance from its ground, in [0, 1] either way.

    Args:
        image: ``(H, W, 3)`` of any size.
        size: side of the network's pictures.
        scale: whose ``side``, where it has one, the picture that is returned has.
    """
    image = sized(image, scale.side or size)
    if scale.spread is None:
        return image
    ink = np.abs(image - ground_colour(image))
    if not scale.relative:
        return ink
    return relative_picture(ink, aligned=scale.aligned, dots=scale.dots)


def ground_colour(image: FloatArray) -> FloatArray:
    """The commonest colour ``(3,)`` of a picture, that of the ground between the dots."""
    some = np.ascontiguousarray(image[1::4, 1::4]).reshape(-1, 3)
    levels = (255 * some).astype(np.int64)
    keys = levels[:, 0] << 16 | levels[:, 1] << 8 | levels[:, 2]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    colour: FloatArray = some[first[counts.argmax()]]
    return colour


def network_image(ink: FloatArray, size: int, scale: PictureScale) -> FloatArray:
    """``(3, size, size)`` from what ``inked`` returned, divided by the spread."""
    channels = sized(ink, size).transpose(2, 0, 1)
    return channels if scale.spread is None else channels * np.float32(1 / scale.spread)


def window_length(
    total: int, *, per_cycle: int, segment: int, wanted: int | None = None, fold: int = 1
) -> int:
    """The largest whole number of segments that are whole mains cycles, too.

    Args:
        total: values that there are.
        per_cycle: values to a mains cycle.
        segment: values to a token.
        wanted: no more than so many, but for one common multiple; None takes all that there are.
        fold: cycles that become one; fewer do where there are too few (see ``folded_cycles``).

    Returns:
        At most ``total``. Where not one common multiple of segment and cycle fits, whole segments.

    Raises:
        DataError: the series is shorter than a segment.
    """
    token = math.lcm(segment, per_cycle)
    unit = token * max(1, min(fold, total // token))
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
