"""Phase-resolved patterns of pulses as numbers, and recordings without some of their phases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chiasm.diagnosis.quantities.pulse_extraction import THRESHOLD
from chiasm.discharge import UNCALIBRATED, Array, Pulses
from chiasm.samples import FloatArray, RecordingSample

ROWS, COLUMNS = 96, 128
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, eq=False)
class PhasePattern:
    """How many pulses there are by charge and phase.

    Attributes:
        counts: ``(ROWS, COLUMNS)``, the smallest charge first, phases from 0 to 360 degrees.
        low, high: charge at the lower edge of the first and at the upper edge of the last row.
        unit: of the charges, ``"pC"`` or ``"uncalibrated"``.
        signed: whether the pulses have a polarity.
        seconds: from the left to the right edge, of signals without a mains; None is a cycle.
    """

    counts: Array
    low: float
    high: float
    unit: str
    signed: bool
    seconds: float | None = None


def phase_pattern(
    pulses: Pulses, charge_pc: float | None = None, *, seconds: float | None = None
) -> PhasePattern:
    """Count pulses by charge and phase.

    Args:
        pulses: of a recording.
        charge_pc: factor from their unit to pC.
        seconds: length of the recording, to count by time in place of phase.
    """
    share = pulses.phase / 360.0
    if seconds is not None and pulses.time is not None:
        share = pulses.time / seconds
    charge = pulses.amplitude * (charge_pc or 1.0)
    high = 1.04 * float(np.abs(charge).max(initial=0.0)) or 1.0
    signed = bool((charge < 0).any())
    low = -high if signed else 0.0
    row = np.minimum(((charge - low) / (high - low) * ROWS).astype(np.int64), ROWS - 1)
    column = np.minimum((share * COLUMNS).astype(np.int64), COLUMNS - 1)
    counts = np.bincount(row * COLUMNS + column, weights=pulses.count, minlength=ROWS * COLUMNS)
    unit = UNCALIBRATED if charge_pc is None else "pC"
    return PhasePattern(
        counts.reshape(ROWS, COLUMNS).astype(float), low, high, unit, signed, seconds
    )


def without_phases(sample: RecordingSample, start: float, end: float) -> RecordingSample:
    """Return a recording that is quiet between two phases, as shares of a cycle.

    Values of the series there are replaced by others of its noise floor, drawn with a fixed seed;
    columns of the picture, which is taken to show one cycle from edge to edge, by the median colour
    of each row.
    """
    image, series = sample.image, sample.series
    if image is not None:
        width = image.shape[1]
        columns = slice(round(start * width), round(end * width))
        image = image.copy()
        image[:, columns] = np.median(image, axis=1, keepdims=True)
    if series is not None:
        per_cycle = sample.samples_per_cycle
        phase = (np.arange(series.shape[1]) % per_cycle + 0.5) / per_cycle
        series = quiet_where(series, (phase >= start) & (phase < end))
    return replace(sample, image=image, series=series)


def quiet_where(series: FloatArray, chosen: np.ndarray) -> FloatArray:
    """Return a series ``(C, T)`` whose ``chosen`` values ``(T,)`` are of its noise floor."""
    quiet = series.copy()
    draws = np.random.default_rng(0).random(int(chosen.sum()))
    for channel in quiet:
        above = np.abs(channel - np.median(channel))
        deviation = _MAD_TO_SIGMA * float(np.median(above))
        floor = channel[above <= max(THRESHOLD * deviation, float(above.min()))]
        channel[chosen] = floor[(draws * floor.size).astype(np.int64)]
    return quiet
