"""Times in a table: clocks and dates in its cells, steps of a sampled signal, and gaps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.count_matrices import LEAST_PATTERN

# 2024-05-01T10:00:00.25, 01.05.2024 10:00:00,25 or 10:00:00.25.
_CLOCK = re.compile(
    r"(?:(?P<first>\d{1,4})[-./](?P<second>\d{1,2})[-./](?P<third>\d{1,4})[T ]+)?"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<seconds>\d{2}(?:[.,]\d+)?)(?:\s?(?:Z|UTC|GMT))?"
)
_DAY_S = 86_400.0
_UNIFORM = 0.02  # share of a step by which steps of a sampled time may differ
_MOST_DIGITS, _ROUNDED = 13, 1e-3  # decimals of a time, and their error in digits
# Of a sampled time with gaps: its fewest steps, and the largest share of jumps among them.
_LEAST_SAMPLED, _MOST_GAPS = 200, 0.05


def clock_seconds(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return seconds since the first midnight of a column of times; None if one cell is no time.

    Times of day without a date may pass midnight once they rise no more. Of a date with strokes
    either order of day and month is taken, because differences of days alone count.

    Example:
        >>> clock_seconds(["23:59:59.5", "00:00:00.5"])
        array([86399.5, 86400.5])
    """
    found = [_CLOCK.fullmatch(cell.strip("\"' ")) for cell in cells]
    if not found:
        return None
    days, seconds = np.zeros(len(found)), np.zeros(len(found))
    for row, match in enumerate(found):
        day = None if match is None else _day(match)
        if match is None or day is None:
            return None
        days[row] = day
        clock = 3600 * int(match["hour"]) + 60 * int(match["minute"])
        seconds[row] = clock + float(match["seconds"].replace(",", "."))
    if not days.any():
        days[1:] = np.cumsum(np.diff(seconds) < -_DAY_S / 2)
    return (days - days[0]) * _DAY_S + seconds


def _day(match: re.Match[str]) -> int | None:
    """Return the number of the day of a date, 0 without a date, None of no date."""
    if match["first"] is None:
        return 0
    first, second, third = (int(match[name]) for name in ("first", "second", "third"))
    orders = [(first, second, third)] if first > 31 else [(third, second, first)]
    orders += [] if first > 31 else [(third, first, second)]
    for year, month, day in orders:
        try:
            return date(year if year > 99 else 2000 + year, month, day).toordinal()
        except ValueError:
            continue
    return None


def step_of(time: NDArray[np.float64]) -> float:
    """Return the step of times that are equally far apart, but for their last digit."""
    step = float(time[-1] - time[0]) / (len(time) - 1)
    # Of few digits the ends are no better than a digit: a round rate within that is meant.
    rate = float(f"{1 / step:.3g}")
    digit = _last_digit(time)
    return 1 / rate if abs(1 / rate - step) * (len(time) - 1) < digit > 1.5 * step else step


def gaps_in(time: NDArray[np.float64]) -> int:
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


def equal_steps(time: NDArray[np.float64]) -> bool:
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
