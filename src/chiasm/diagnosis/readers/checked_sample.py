"""A recording made of a caller's arrays, checked as a reader checks its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.readers.series_files import read_numbers_csv, read_series_npy
from chiasm.errors import DataError
from chiasm.samples import FloatArray, RecordingSample


def read_series(path: Path, channels: int) -> FloatArray:
    """Read a series ``(C, T)`` from a CSV table or a numpy array; ``DataError`` if it is none."""
    if path.suffix.lower() == ".npy":
        return read_series_npy(path, rows_in_time=channels == 1)
    return read_numbers_csv(path, rows_in_time=channels == 1)


def sample_from_arrays(
    image: NDArray[Any] | None,
    series: NDArray[Any] | None,
    *,
    frequency: float,
    samples_per_cycle: int,
    source: str,
) -> RecordingSample:
    """Return the recording that a caller's arrays are.

    Args:
        image: ``(H, W, 3)`` float in [0, 1], at least 8 pixels a side.
        series: ``(C, T)`` real numbers.
        frequency: of the mains, 10 to 400 Hz.
        samples_per_cycle: values of the series in a mains cycle.
        source: name of the recording.

    Raises:
        DataError: a shape, a type or a value is not of this kind.
    """
    name = source or "The recording"
    if image is not None:
        if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 8:
            raise DataError(
                f"{name} has a picture of shape {image.shape}; (height, width, 3) with at least 8 "
                "pixels a side was expected."
            )
        if not np.issubdtype(image.dtype, np.floating):
            raise DataError(f"{name} has a picture of {image.dtype}; divide 8-bit ones by 255.")
        if not (image.min() >= -0.01 and image.max() <= 1.01):
            raise DataError(f"{name} has a picture with NaN or values outside [0, 1].")
        image = np.ascontiguousarray(image, np.float32)
    if series is not None:
        if series.ndim != 2 or series.dtype.kind not in "iuf":
            raise DataError(
                f"{name} has a series of shape {series.shape} and type {series.dtype}; real "
                "numbers (channels, values) were expected."
            )
        series = np.ascontiguousarray(series, np.float32)
    if not 10.0 <= frequency <= 400.0:
        raise DataError(f"A mains frequency of {frequency} Hz is none; 50 or 60 was expected.")
    return RecordingSample(
        image=image,
        series=series,
        frequency=frequency,
        samples_per_cycle=samples_per_cycle,
        source=source,
    )
