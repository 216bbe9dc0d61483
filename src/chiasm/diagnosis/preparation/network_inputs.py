"""The arrays that a network takes, from one recording: the same in training and in a runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from chiasm.diagnosis.preparation.recorders import (
    Counts,
    Polarity,
    bins_of,
    channels_of,
    check_polarity,
    held_peaks,
    magnitudes,
)
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

# Windows that cover a series if the form does not say how many.
MOST_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class RecordingForm:
    """How a recording becomes the network's input; part of a classifier's contract.

    Attributes:
        image_size: side of the picture in pixels.
        channels: of the magnitudes that the network takes.
        samples_per_cycle: of their values in a mains cycle; peaks of series with another number
            are held (see ``held_peaks``).
        segment: values in a token.
        series, picture: their scales.
        seconds: length of a window of the series; None takes the whole series.
        windows: number of windows, spread evenly over the series, whose logits are averaged; None
            takes as many as cover the series, up to ``MOST_WINDOWS``.
        polarity: how the series are written (see ``magnitudes``).
        phase: ``"none"`` of signals without a mains, whose phase means nothing.
    """

    image_size: int
    channels: int
    samples_per_cycle: int
    segment: int
    series: SeriesScale
    picture: PictureScale = field(default_factory=PictureScale)
    seconds: float | None = None
    windows: int | None = None
    polarity: Polarity = "unipolar"
    phase: Literal["mains", "none"] = "mains"

    @property
    def recorded_channels(self) -> int:
        """Channels of a recorder's series; of bipolar ones each becomes two."""
        return self.channels // channels_of(self.polarity, 1)

    def magnitudes(self, counts: Counts, samples_per_cycle: int) -> Counts:
        """Return a series ``(C, T)`` of a recorder as upward pulses in bins of the mains cycle."""
        pulses = magnitudes(counts, self.polarity)
        return held_peaks(pulses, per_cycle=samples_per_cycle, cycle=self.samples_per_cycle)

    def shape(self, channels: int, total: int, samples_per_cycle: int) -> tuple[int, int]:
        """Return the shape of ``magnitudes`` of a series ``(channels, total)``."""
        bins = bins_of(total, per_cycle=samples_per_cycle, cycle=self.samples_per_cycle)
        return channels_of(self.polarity, channels), bins

    def window_length(self, total: int, *, frequency: float) -> int:
        """Return the values in a window of a series.

        Args:
            total: values of the series in a channel.
            frequency: of the mains, Hz.

        Raises:
            DataError: the series is shorter than a token.
        """
        per_cycle = self.samples_per_cycle
        return window_length(
            total,
            per_cycle=per_cycle,
            segment=self.segment,
            limit=round(self.seconds * frequency * per_cycle) if self.seconds else None,
            fold=self.series.shrink,
        )


def recording_arrays(
    sample: RecordingSample, form: RecordingForm, modalities: Sequence[str]
) -> dict[str, FloatArray]:
    """Return the network's inputs by modality, of those modalities that the recording has.

    Returns:
        ``"image"`` to ``(1, 3, S, S)`` and ``"series"`` to ``(W, C, L)``, one row for each window.

    Raises:
        DataError: the recording has none of the modalities, or one does not fit the form.
    """
    arrays: dict[str, FloatArray] = {}
    for modality in sample_modalities(sample, modalities):
        arrays[modality] = _picture(sample, form) if modality == "image" else _windows(sample, form)
    return arrays


def sample_modalities(sample: RecordingSample, modalities: Sequence[str]) -> tuple[str, ...]:
    """Return those of a model's modalities that a recording has; ``DataError`` if it has none."""
    present = tuple(m for m in modalities if getattr(sample, m) is not None)
    if not present:
        absent = f"neither {' nor '.join(modalities)}" if modalities[1:] else f"no {modalities[0]}"
        raise DataError(f"{sample.source or 'The recording'} has {absent}; this model needs one.")
    return present


def absence_notes(present: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    """Return a note for each of a model's modalities that is absent."""
    return tuple(f"the {m} was absent" for m in modalities if m not in present)


def _windows(sample: RecordingSample, form: RecordingForm) -> FloatArray:
    counts = sample.series
    assert counts is not None
    name = sample.source or "The recording"
    expected = form.recorded_channels
    if counts.ndim != 2 or counts.shape[0] != expected:
        raise DataError(
            f"{name} has a series of shape {counts.shape}; ({expected}, values) was expected."
        )
    if not np.isfinite(counts).all():
        raise DataError(f"{name} has values in its series that are no finite numbers.")
    check_polarity(counts, form.polarity, name)
    pulses = form.magnitudes(counts, sample.samples_per_cycle)
    total = pulses.shape[1]
    length = form.window_length(total, frequency=sample.frequency)
    count = form.windows or min(MOST_WINDOWS, math.ceil(total / length))
    parts = windows(pulses, length, per_cycle=form.samples_per_cycle, count=count)
    return np.stack([finished(scaled(part, form.series), form.series) for part in parts])


def _picture(sample: RecordingSample, form: RecordingForm) -> FloatArray:
    image = sample.image
    assert image is not None
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"{sample.source or 'The recording'} has a picture of shape {image.shape}; "
            "(height, width, 3) in [0, 1] was expected."
        )
    ink = inked(image, form.image_size, form.picture)
    return np.ascontiguousarray(network_image(ink, form.image_size, form.picture))[None]
