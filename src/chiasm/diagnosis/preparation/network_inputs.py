"""A recording as the arrays that a network takes; the same in training's judge and in a runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from chiasm.diagnosis.preparation.scales import (
    PictureScale,
    SeriesScale,
    finished,
    inked,
    network_image,
    scaled,
    window_length,
    windows,
)
from chiasm.errors import DataError
from chiasm.samples import FloatArray, RecordingSample

# Windows that cover a series where the form does not say how many.
MOST_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class RecordingForm:
    """How a recording becomes the network's input; stands in a classifier's contract.

    Attributes:
        image_size: side of the picture in pixels.
        channels: of the series.
        samples_per_cycle: values of the series to a mains cycle.
        segment: values to a token.
        series, picture: their scales.
        seconds: of the series in one pass; None takes it whole.
        windows: passes, spread evenly over the series, whose logits are averaged; None takes as
            many as cover it.
    """

    image_size: int
    channels: int
    samples_per_cycle: int
    segment: int
    series: SeriesScale
    picture: PictureScale
    seconds: float | None = None
    windows: int | None = None


def present(sample: RecordingSample, modalities: Sequence[str]) -> tuple[str, ...]:
    """Those of a model's modalities that a recording has; ``DataError`` where it has none."""
    there = tuple(m for m in modalities if getattr(sample, m) is not None)
    if not there:
        raise DataError(
            f"{sample.source or 'The recording'} has neither of what this model looks at: "
            f"{' and '.join(modalities)}."
        )
    return there


def absences(there: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    """A remark for each of a model's modalities that is not there."""
    return tuple(f"the {m} was absent" for m in modalities if m not in there)


def series_windows(sample: RecordingSample, form: RecordingForm) -> FloatArray:
    """The windows ``(W, C, L)`` of a recording's series, scaled.

    Raises:
        DataError: the series does not fit the form.
    """
    counts = sample.series
    assert counts is not None
    where = sample.source or "The recording"
    if sample.samples_per_cycle != form.samples_per_cycle:
        raise DataError(
            f"{where} has {sample.samples_per_cycle} values to a mains cycle; this model "
            f"learned from {form.samples_per_cycle}. Resample the series."
        )
    if counts.ndim != 2 or counts.shape[0] != form.channels:
        raise DataError(
            f"{where} has a series of shape {counts.shape}; ({form.channels}, values) was expected."
        )
    if not np.isfinite(counts).all():
        raise DataError(f"{where} has values in its series that are no finite numbers.")
    per_cycle, total = form.samples_per_cycle, counts.shape[1]
    wanted = round(form.seconds * sample.frequency * per_cycle) if form.seconds else None
    length = window_length(
        total, per_cycle=per_cycle, segment=form.segment, wanted=wanted, fold=form.series.shrink
    )
    count = form.windows or min(MOST_WINDOWS, math.ceil(total / length))
    parts = windows(counts, length, per_cycle=per_cycle, count=count)
    return np.stack([finished(scaled(part, form.series), form.series) for part in parts])


def picture_input(sample: RecordingSample, form: RecordingForm) -> FloatArray:
    """The picture ``(3, S, S)`` of a recording, scaled.

    Raises:
        DataError: the picture does not fit the form.
    """
    image = sample.image
    assert image is not None
    where = sample.source or "The recording"
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"{where} has a picture of shape {image.shape}; (height, width, 3) in [0, 1] was "
            "expected."
        )
    ink = inked(image, form.image_size, form.picture)
    return np.ascontiguousarray(network_image(ink, form.image_size, form.picture))


@dataclass(frozen=True, slots=True)
class InputFormat:
    """What the network takes; all of it stands in the contract.

    Attributes:
        modalities: of the network.
        image_size: side of the picture in pixels.
        segment: values to a token.
        scale: of the series.
        picture: scale of the pictures.
        seconds: of the series in one pass; None takes it whole.
    """

    modalities: tuple[str, ...]
    image_size: int
    segment: int
    scale: SeriesScale
    picture: PictureScale = field(default_factory=PictureScale)
    seconds: float | None = None
