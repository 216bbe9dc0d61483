"""Scales of series and pictures, windows of whole segments, and the size of pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from chiasm.diagnosis.preparation.excess import passed_levels, patterns
from chiasm.diagnosis.preparation.recorders import Counts
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

CLIP = 1.5
_FULL, _HIGH = 99.9, 99.0
# Coprime to usual numbers of values a cycle, so that every phase is sampled.
_STRIDE = 37
# Number of series from which the scale of folded ones is estimated.
_FOLDED = 100
# Least standard deviation of a noise floor, as a share of the smallest step between two values.
_ROUNDING = 0.5
# Values from which that step is estimated.
_STEPS = 200_000


@dataclass(frozen=True, slots=True)
class SeriesScale:
    """Scale of a model's series; a scale of each recording would remove its absolute amplitude.

    Attributes:
        full: counts that become 1: the 99.9th percentile of the training recordings.
        high: their 99th percentile, counts; the unit of noise.
        clip: largest value after scaling.
        spread: None changes no more. Else the recording's quiet level is subtracted, which depends
            on the instrument more than on the fault, and the rest is divided by this value, the
            standard deviation of the training recordings.
        relative: the series becomes counts of pulses by size relative to the recording's mean
            pulse (see ``relative_series``); needs ``spread``.
        cycle: values in a mains cycle, for the settings below; None applies none of them.
        aligned: roll relative series to their reference phase (see ``phase_reference``).
        fold: neighbouring cycles of a relative series that become one (see ``folded_cycles``).
        least: cycles in a token; at least as many remain after folding.
        excess: folded counts come with how often levels of the noise floor are passed at each
            phase (see ``patterns``), so that ``fold`` cycles become two; needs an even ``fold``
            and ``least``.
        rounding: least standard deviation of a noise floor, counts; half of the smallest step of
            the recorder, so that series in volts have a floor as series in counts do.
        length_free: the excess is that of a series of ``fold`` cycles also where fewer make a pair;
            off in models of earlier versions, to which a short discharge looked like none.
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
    rounding: float = _ROUNDING
    length_free: bool = False

    @property
    def shrink(self) -> int:
        """Values of the series for each value of the network's input."""
        return self.fold // 2 if self.excess else self.fold


@dataclass(frozen=True, slots=True)
class PictureScale:
    """Scale of a model's pictures.

    Attributes:
        spread: None leaves pictures unchanged. Else they become the distance from the ground's
            colour, so that empty cells are 0 on dark and on light ground, divided by this value,
            the standard deviation of the training pictures.
        relative: pictures are stretched to a common height (see ``relative_picture``); needs
            ``spread``.
        aligned: pictures are rolled to their reference phase; needs ``relative``.
        dots: pictures are 1 at dots and else 0, because instruments differ in their colours; needs
            ``relative``.
        side: pixels at which dots are found, enough to keep them apart, before the picture is
            averaged to the network's size; None is the network's size.
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
    """Return the scale of training series, each ``(C, T)``; 1 if there is none."""
    present = [counts for counts in series if counts is not None]
    rounding = _ROUNDING * smallest_step(present)
    form = SeriesScale(
        spread=1.0,
        relative=relative,
        cycle=cycle,
        aligned=aligned,
        fold=fold,
        least=least,
        excess=excess,
        rounding=rounding,
        length_free=excess,
    )
    if not present:
        return form if standardised else replace(form, spread=None)
    parts = [counts[:, ::_STRIDE] for counts in present]
    high, full = np.percentile(np.concatenate([part.ravel() for part in parts]), (_HIGH, _FULL))
    full = float(full) if full > 0 else 1.0
    scale = SeriesScale(full=full, high=float(high) if high > 0 else full, rounding=rounding)
    if not standardised:
        return scale
    above = replace(form, full=scale.full, high=scale.high)
    if fold > 1:  # sums depend on the length of the series
        parts = present[:: max(1, len(present) // _FOLDED)]
    elif relative:  # neighbouring values are counted together
        parts = [counts[:, : max(len(counts[0]) // _STRIDE, 1)] for counts in present]
    values = np.concatenate([finished(scaled(part, scale), above).ravel() for part in parts])
    return replace(above, spread=float(values.std()) or 1.0)


def smallest_step(series: Sequence[Counts]) -> float:
    """Return the smallest difference between two values of a data set; 1 if there is none.

    Recorders write whole counts, or volts that are multiples of a converter's step.
    """
    if all(np.issubdtype(counts.dtype, np.integer) for counts in series):
        return 1.0
    share = max(1, sum(counts.size for counts in series) // _STEPS)
    values = np.unique(np.concatenate([counts.ravel()[::share] for counts in series]))
    steps = np.diff(values.astype(np.float64))
    # Below the precision of float32 two values are equal.
    steps = steps[steps > 1e-6 * max(float(np.abs(values).max()), 1e-30)]
    return float(steps.min()) if steps.size else 1.0


def estimate_picture_scale(
    images: Iterable[FloatArray | None],
    size: int,
    *,
    relative: bool = False,
    aligned: bool = False,
    dots: bool = False,
    side: int | None = None,
) -> PictureScale:
    """Return the scale that standardises training pictures at ``size`` x ``size`` pixels."""
    raw = PictureScale(spread=1.0, relative=relative, aligned=aligned, dots=dots, side=side)
    present = (image for image in images if image is not None)
    inputs = (network_image(inked(image, size, raw), size, raw) for image in present)
    squares = [np.square(picture).mean() for picture in inputs]
    return replace(raw, spread=float(np.sqrt(np.mean(squares))) or 1.0 if squares else 1.0)


def scaled(counts: Counts, scale: SeriesScale, *, gain: float = 1.0) -> FloatArray:
    """Return counts divided by the scale, a new float32 array, not clipped nor standardised."""
    return np.multiply(counts, np.float32(gain / scale.full), dtype=np.float32)


def finished(values: FloatArray, scale: SeriesScale) -> FloatArray:
    """Return scaled values ``(C, L)``, clipped and standardised or relative, as the scale says.

    Folded values are shorter by that factor. ``values`` may be overwritten.
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
    """Return counts of pulses from values above the quiet level, aligned and folded."""
    floor = floor_deviation(above, scale.rounding / scale.full)
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
            length_free=scale.length_free,
        )
    if scale.aligned:
        counts = aligned_series(counts, cycle=scale.cycle, step=GROUP)
    if scale.fold > 1:
        counts = folded_cycles(counts, cycle=scale.cycle, fold=scale.fold, least=scale.least)
    return counts


def quiet_level(values: FloatArray) -> FloatArray:
    """Return the level ``(C, 1)`` between pulses: the median of values ``(C, L)``."""
    return np.asarray(np.median(values[:, ::7], axis=1, keepdims=True), dtype=np.float32)


def inked(image: FloatArray, size: int, scale: PictureScale) -> FloatArray:
    """Return the picture, or its distance from the ground's colour, in [0, 1].

    Args:
        image: ``(H, W, 3)`` of any size.
        size: side of the network's pictures, and of the result if the scale has no ``side``.
        scale: of the pictures.
    """
    image = sized(image, scale.side or size)
    if scale.spread is None:
        return image
    ink = np.abs(image - ground_colour(image))
    if not scale.relative:
        return ink
    return relative_picture(ink, aligned=scale.aligned, dots=scale.dots)


def ground_colour(image: FloatArray) -> FloatArray:
    """Return the commonest colour ``(3,)`` of a picture, that of the ground between the dots."""
    colours = np.ascontiguousarray(image[1::4, 1::4]).reshape(-1, 3)
    levels = (255 * colours).astype(np.int64)
    keys = levels[:, 0] << 16 | levels[:, 1] << 8 | levels[:, 2]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    colour: FloatArray = colours[first[counts.argmax()]]
    return colour


def network_image(ink: FloatArray, size: int, scale: PictureScale) -> FloatArray:
    """Return ``(3, size, size)`` of the result of ``inked``, divided by the spread."""
    channels = sized(ink, size).transpose(2, 0, 1)
    return channels if scale.spread is None else channels * np.float32(1 / scale.spread)


def window_length(
    total: int, *, per_cycle: int, segment: int, limit: int | None = None, fold: int = 1
) -> int:
    """Return the largest length of whole segments that are also whole mains cycles.

    Args:
        total: values of the series.
        per_cycle: values in a mains cycle.
        segment: values in a token.
        limit: largest length, but at least one common multiple; None is no limit.
        fold: cycles that become one; fewer if the series is too short (see ``folded_cycles``).

    Returns:
        At most ``total``. If no common multiple of segment and cycle fits, whole segments.

    Raises:
        DataError: the series is shorter than a segment.
    """
    token = math.lcm(segment, per_cycle)
    unit = token * max(1, min(fold, total // token))
    length = min(total, max(limit, unit) if limit else total) // unit * unit
    length = length or total // segment * segment
    if not length:
        raise DataError(
            f"The series has {total} values a channel, and one token takes {segment}: record "
            "longer, take shorter tokens (segment=...), or leave the series out."
        )
    return length


def windows(counts: Counts, length: int, *, per_cycle: int, count: int) -> list[Counts]:
    """Return ``count`` windows ``(C, length)``, evenly spread and each from the start of a cycle.

    A single window is the middle one. A series that is hardly longer gives fewer windows.
    """
    room = (counts.shape[1] - length) // per_cycle
    if count == 1:
        starts = [room // 2]
    else:
        starts = [round(room * number / (count - 1)) for number in range(count)]
    return [counts[:, s * per_cycle : s * per_cycle + length] for s in dict.fromkeys(starts)]


def sized(image: FloatArray, size: int) -> FloatArray:
    """Return the picture ``(H, W, 3)`` at ``size`` x ``size`` pixels, by area if it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = min(image.shape[:2]) >= size
    resized = cv2.resize(
        image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return np.clip(resized, 0, 1, dtype=np.float32)
