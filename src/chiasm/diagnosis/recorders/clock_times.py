"""Times of day and dates in the cells of a table, as monitors write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

# 2024-05-01T10:00:00.25, 01.05.2024 10:00:00,25 or 10:00:00.25.
_CLOCK = re.compile(
    r"(?:(?P<first>\d{1,4})[-./](?P<second>\d{1,2})[-./](?P<third>\d{1,4})[T ]+)?"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<seconds>\d{2}(?:[.,:]\d+)?)"
    r"(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?(?:\s?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
)
_DAY_S = 86_400.0


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
        hour = int(match["hour"])
        if match["half"]:  # 12 is the first hour of each half
            hour = hour % 12 + 12 * (match["half"] in "pP")
        clock = 3600 * hour + 60 * int(match["minute"])
        seconds[row] = clock + float(re.sub("[,:]", ".", match["seconds"]))
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
