"""What is measured in a recording for its trend."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from chiasm.diagnosis.preparation.recorders import CYCLE, held_peaks, magnitudes, recognised_polarity
from chiasm.samples import RecordingSample

_PULSE = 6.0  # robust deviations above the quiet level
_MAD_TO_SIGMA = 1.4826


def quantities_of(sample: RecordingSample) -> Mapping[str, float]:
    """Return the amplitude of the largest pulses and the pulse rate; nothing without a series."""
    if sample.series is None or not sample.series.size:
        return {}
    polarity = recognised_polarity([sample.series]) or "unipolar"
    series = held_peaks(
        magnitudes(sample.series, polarity), per_cycle=sample.samples_per_cycle, cycle=CYCLE
    )
    quiet = np.median(series, axis=1, keepdims=True)
    above = series - quiet
    floor = _MAD_TO_SIGMA * np.median(np.abs(above), axis=1, keepdims=True)
    pulses = above[above > _PULSE * np.maximum(floor, 0.5)]
    seconds = sample.series.shape[1] / sample.samples_per_cycle / sample.frequency
    return {
        "amplitude": float(np.quantile(pulses, 0.9)) if pulses.size else 0.0,
        "pulses_per_second": pulses.size / seconds,
    }


def recorded_form(sample: RecordingSample) -> str:
    """Return in words what must be equal for the amplitudes of recordings to be compared."""
    if sample.series is None:
        return "picture alone"
    series = sample.series
    whole = bool(np.array_equal(series, np.rint(series)))
    values = "whole numbers" if whole else "levels below 0" if series.max() < 0 else "decimals"
    return (
        f"{sample.frequency:g} Hz, {sample.samples_per_cycle} values a cycle, "
        f"{len(series)} channel{'s' * (len(series) > 1)}, {values}"
    )


def digest_of(sample: RecordingSample) -> str:
    """Return a digest of the recording's values."""
    digest = hashlib.sha256()
    for array in (sample.image, sample.series):
        if array is not None:
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
