"""A sampled signal as a series: its rate by the steps of its times, and its values to a cycle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.count_matrices import LEAST_PATTERN
from chiasm.diagnosis.preparation.pulses import in_bins
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.recorders.recorded import Recorded, RecorderSettings, check_finite, system_of
from chiasm.errors import DataError

_UNIFORM = 0.02  # share of a step by which steps of a sampled time may differ
_MOST_DIGITS, _ROUNDED = 13, 1e-3  # decimals of a time, and their error in digits
_LEAST_A_CYCLE = 2.0  # values of a signal of which the mains cycle can be told
_OFTEN = 8  # values to a mains cycle, and steps that times may be off a straight line
_OFF_LINE = 2.0
# Of a sampled time with gaps: its fewest steps, and the largest share of jumps among them.
_LEAST_SAMPLED, _MOST_GAPS = 200, 0.05


def sampled(values: NDArray[np.float64], settings: RecorderSettings, where: str) -> Recorded:
    """Return values ``(C, T)`` as a series at the rate that is known; else 128 to a cycle."""
    check_finite(values, where)
    if settings.sample_rate is not None:
        return at_rate(values, settings.sample_rate, settings, where)
    series = np.ascontiguousarray(values, np.float32)
    per_cycle = settings.samples_per_cycle or CYCLE
    return Recorded(
        series,
        None,
        settings.frequency,
        per_cycle,
        system=system_of(settings),
        assumed=not settings.is_described,
    )


def at_rate(
    values: NDArray[np.float64], rate: float, settings: RecorderSettings, where: str
) -> Recorded:
    """Return values ``(C, T)`` at a rate as a series; ``DataError`` where it is below 2 a cycle."""
    series = np.ascontiguousarray(values, np.float32)
    per_cycle = rate / settings.frequency
    if per_cycle < _LEAST_A_CYCLE:
        raise DataError(
            f"{where} would have {rate:.4g} values a second, {per_cycle:.3g} to a cycle of "
            f"{settings.frequency:g} Hz, which are none of a sampled signal. Give the right rate "
            "(sample_rate=... values a second) or unit of its times (time_unit=ms, us or ns), or "
            "layout=pulses if each row is a pulse.",
            see="columns",
        )
    if per_cycle >= 2 and abs(per_cycle - round(per_cycle)) < 1e-6 * per_cycle:
        whole = round(per_cycle)
        return Recorded(series, None, settings.frequency, whole, system=system_of(settings))
    held = in_bins(series, rate=rate, frequency=settings.frequency)
    return Recorded(held, None, settings.frequency, system=system_of(settings))


def step_of(time: NDArray[np.float64]) -> float:
    """Return the step of times that are equally far apart, but for their last digit."""
    step = float(time[-1] - time[0]) / (len(time) - 1)
    # Of few digits the ends are no better than a digit: a round rate within that is meant.
    rate = float(f"{1 / step:.3g}")
    digit = _last_digit(time)
    if not has_equal_steps(time):  # each end may be off by some steps
        return 1 / rate if abs(1 / rate - step) * (len(time) - 1) <= 2 * _OFF_LINE * step else step
    return 1 / rate if abs(1 / rate - step) * (len(time) - 1) < digit > 1.5 * step else step


def is_uneven_clock(time: NDArray[np.float64], settings: RecorderSettings) -> bool:
    """Return whether times are those of a sampled signal whose steps are not quite equal.

    Pulses that come at random stray from a straight line, and those of each half-cycle are few.
    """
    if len(time) < _LEAST_SAMPLED or time[-1] <= time[0]:
        return False
    step = float(time[-1] - time[0]) / (len(time) - 1)
    away = np.abs(time - np.linspace(time[0], time[-1], len(time)))
    return step * settings.frequency * _OFTEN < 1 and float(away.max()) <= _OFF_LINE * step


def gaps_of(time: NDArray[np.float64]) -> int:
    """Return at how many rows a sampled time jumps; 0 of times that are not sampled."""
    steps = np.diff(time)
    usual = float(np.median(steps))
    jumps = int((np.abs(steps - usual) > 0.5 * usual).sum())
    sampled = usual > 0 and len(steps) >= _LEAST_SAMPLED and jumps <= _MOST_GAPS * len(steps)
    even = np.abs(steps - usual) <= _UNIFORM * usual
    return jumps if sampled and float(even.mean()) > 1 - _MOST_GAPS else 0


def _last_digit(time: NDArray[np.float64]) -> float:
    """Return the size of the last digit that times are written with; else the least step."""
    for digits in range(_MOST_DIGITS):
        scaled = time * 10.0**digits
        if np.abs(scaled - np.rint(scaled)).max() < _ROUNDED:
            return float(10.0**-digits)
    steps = np.diff(time)
    return float(steps[steps > 0].min())


def has_equal_steps(time: NDArray[np.float64]) -> bool:
    """Return whether times have equal steps, also where they are written with few digits."""
    steps = np.diff(time)
    if not len(steps) or not np.isfinite(steps).all() or (steps < 0).any() or time[-1] <= time[0]:
        return False
    if (steps > 0).all() and np.ptp(steps) <= _UNIFORM * float(steps.mean()):
        return True
    # Rounded to the last digit: no time is farther from a straight line than that digit.
    digit = _last_digit(time)
    line = np.linspace(time[0], time[-1], len(time))
    many = len(steps) >= LEAST_PATTERN and float(steps.mean()) >= digit / LEAST_PATTERN
    return many and float(np.abs(time - line).max()) <= 1.01 * digit
