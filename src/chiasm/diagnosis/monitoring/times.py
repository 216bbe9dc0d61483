"""When a recording was made: from a cell of a table, an instrument's fields, or a file's name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

_FIRST, _LAST = 1970, 2100  # years
# Seconds, milliseconds, microseconds and nanoseconds since 1970 between 1990 and 2100.
_EPOCHS = (1.0, 1e3, 1e6, 1e9)
_EPOCH_FROM, _EPOCH_TO = 6.3e8, 4.1e9

_CLOCK = r"(?:[T _-]+(?P<hour>\d{2})[-:._h]?(?P<minute>\d{2})(?:[-:._m]?(?P<second>\d{2}))?)?"
_IN_NAMES = (
    re.compile(
        r"(?<!\d)(?P<year>(?:19|20)\d{2})(?P<mark>[-_.]?)(?P<month>\d{2})(?P=mark)(?P<day>\d{2})"
        + _CLOCK
        + r"(?!\d)"
    ),
    # Two digits of the year are one only beside a clock.
    re.compile(
        r"(?<!\d)(?P<year>\d{2})(?P<month>\d{2})(?P<day>\d{2})"
        r"[T_-](?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})(?!\d)"
    ),
)
_DOTTED = re.compile(
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})"
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?)?"
)
_NUMBER = re.compile(r"\d+(?:\.\d*)?")
_SLASHED = re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}.*")
# What a clock says that was never set.
_UNSET = frozenset({(1970, 1, 1), (1980, 1, 1), (1980, 1, 6), (2000, 1, 1)})


def time_of_text(text: str) -> float | None:
    """Return the seconds since 1970 that a text says, or None.

    Understood are ISO 8601, ``31.12.2024 23:59``, seconds to nanoseconds since 1970, and what
    ``time_in_name`` finds in a whole text. A text without a zone is UTC.

    Example:
        >>> time_of_text("1970-01-02") , time_of_text("02.01.1970 00:00"), time_of_text("today")
        (86400.0, 86400.0, None)
    """
    text = text.strip()
    # Python takes 240531_144000 for a number.
    if _NUMBER.fullmatch(text):
        value = float(text)
        for scale in _EPOCHS:
            if _EPOCH_FROM <= value / scale <= _EPOCH_TO:
                return value / scale
        # A number such as 20240501 is a date.
        return time_in_name(text) if text.isdigit() else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return _seconds(moment)
    dotted = _DOTTED.fullmatch(text)
    if dotted:
        return _of_match(dotted)
    return time_in_name(text)


def is_ambiguous(text: str) -> bool:
    """Return whether a text is a date whose day and month may be exchanged.

    Example:
        >>> is_ambiguous("03/04/2024"), is_ambiguous("2024-04-03")
        (True, False)
    """
    return bool(_SLASHED.fullmatch(text.strip()))


def time_in_name(name: str) -> float | None:
    """Return the seconds since 1970 of the first date in the name of a file, or None.

    Example:
        >>> time_in_name("bay 3_1970-01-02_00-00-01") , time_in_name("coil_240131_120000_UHF")
        (86401.0, 1706702400.0)
        >>> time_in_name("recording_0017")
    """
    for pattern in _IN_NAMES:
        for match in pattern.finditer(name):
            time = _of_match(match)
            if time is not None:
                return time
    return None


def unset_clocks(times: Iterable[float]) -> int:
    """Count times of a day on which clocks begin that were never set."""
    days = (datetime.fromtimestamp(time, UTC) for time in times)
    return sum((day.year, day.month, day.day) in _UNSET for day in days)


def _of_match(match: re.Match[str]) -> float | None:
    numbers = {name: int(value or 0) for name, value in match.groupdict().items() if name != "mark"}
    year = numbers["year"] + (2000 if numbers["year"] < 100 else 0)
    try:
        moment = datetime(
            year,
            numbers["month"],
            numbers["day"],
            numbers["hour"],
            numbers["minute"],
            numbers["second"],
        )
    except ValueError:  # digits that are no date
        return None
    return _seconds(moment)


def _seconds(moment: datetime) -> float | None:
    if not _FIRST <= moment.year < _LAST:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
