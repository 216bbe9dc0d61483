"""A recording made of a caller's arrays, checked as a reader checks its files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.diagnosis.recorders.recorded import Recorded, RecorderSettings
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file, recorded_from_bytes
from chiasm.discharge import MeasuringSystem, Pulses
from chiasm.errors import DataError
from chiasm.files.image_arrays import array_of, rgb_image
from chiasm.samples import RecordingSample

_LEAST_SIDE = 8  # pixels of an image


def series_of_file(
    file: Path | tuple[str, bytes], *, channels: int, settings: RecorderSettings
) -> Recorded:
    """Read what a recorder's file holds, for a model of so many channels.

    Args:
        file: its path, or name and content.
        channels: of the series that the model takes; the rows of a table or an array follow each
            other in time where it is 1, and else are channels.
        settings: what the file does not say.

    Raises:
        DataError: it is damaged, or can be read in two ways.
    """
    if not settings.layout and channels > 1:
        settings = replace(settings, layout="channels")
    if isinstance(file, Path):
        recorded = read_recorder_file(file, settings)
    else:
        recorded = recorded_from_bytes(file[1], file[0], settings)
    if channels == 1 and recorded.series is not None and len(recorded.series) > 1:
        recorded = replace(recorded, series=recorded.series.reshape(1, -1))
    return recorded


def sample_from_arrays(
    image: Any,
    series: Any,
    *,
    channels: int,
    frequency: float = 60.0,
    samples_per_cycle: int = 128,
    source: str = "",
    charge: float | None = None,
    pulses: Pulses | None = None,
    system: MeasuringSystem | None = None,
) -> RecordingSample:
    """Make a sample of what a caller hands over.

    Args:
        image: a path, an array ``(H, W, 3)`` of at least 8 pixels a side, a PIL image or a tensor
            (see ``rgb_image``), or None.
        series: a path (see ``read_recorder_file``), real numbers ``(C, T)``, of one channel also
            ``(T,)``, or None.
        channels: of the series that the model takes; a table's rows follow each other in time
            where it is 1.
        frequency: of the mains, 10 to 400 Hz.
        samples_per_cycle: values of the series in a mains cycle.
        source: name of the recording in diagnoses and messages.
        charge: calibration factor, the apparent charge of one unit of the series in pC.
        pulses, system: as a reader found them; what a file in ``series`` says has precedence.

    Raises:
        DataError: a shape, a type or a value does not fit.
    """
    name = source or "The recording"
    if image is not None:
        image = rgb_image(image, f"the image of {source}" if source else "image")
        if min(image.shape[:2]) < _LEAST_SIDE:
            raise DataError(
                f"{name} has an image of {image.shape[1]} x {image.shape[0]} pixels; at least "
                f"{_LEAST_SIDE} a side are needed."
            )
    if isinstance(series, str | Path):
        recorded = series_of_file(
            Path(series),
            channels=channels,
            settings=RecorderSettings(
                frequency=frequency, samples_per_cycle=samples_per_cycle, charge=charge
            ),
        )
        pulses, system = recorded.pulses, recorded.system
        image = recorded.image if image is None else image
        series = recorded.series
        frequency, samples_per_cycle = recorded.frequency, recorded.samples_per_cycle
    elif series is not None:
        series = array_of(series, f"the series of {source}" if source else "series")
        if series.ndim == 1 and channels == 1:
            series = series[None]
        if series.ndim != 2 or series.dtype.kind not in "iuf":
            raise DataError(
                f"{name} has a series of shape {series.shape} and type {series.dtype}; real "
                "numbers (channels, values) were expected."
            )
        series = np.ascontiguousarray(series, np.float32)
    if charge is not None and not 0 < charge < math.inf:
        raise DataError(f"{name} has the calibration factor {charge}; pC of one unit, above 0.")
    if not 10.0 <= frequency <= 400.0:
        raise DataError(f"A mains frequency of {frequency} Hz is none; 50 or 60 was expected.")
    return RecordingSample(
        image=image,
        series=series,
        frequency=frequency,
        samples_per_cycle=samples_per_cycle,
        source=source,
        pulses=pulses,
        system=system or MeasuringSystem(charge_pc=charge),
    )
