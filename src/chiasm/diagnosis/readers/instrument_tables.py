"""Tables of numbers as instruments write them: any separator, decimal commas, header lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError

_PLAIN = b"0123456789+-.eE,\t\r\n "
_MOST_HEADERS = 100  # lines
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_UNIT = re.compile(
    r"[\[(]?(p|n|u|µ|μ|m|k)?(s|sec|seconds?|v|volts?|a|c|hz|deg|rad|°|db[a-z]*)[\])]?",
    re.IGNORECASE,
)
_INTERVAL = re.compile(r"(sampl\w*|x)?[ _-]*(interval|increment|period)$", re.IGNORECASE)
_LEAST_AXIS = 16  # rows and columns of a matrix with axes
_CLOCK = re.compile(r"\d:\d\d:\d\d")
_COMMENTS = ("#", "%", "//", '"#')


@dataclass(frozen=True, slots=True, eq=False)
class InstrumentTable:
    """A table of numbers.

    Attributes:
        names: of the columns, as written, or () where no line names them.
        values: ``(R, C)`` float64; NaN where a cell is empty.
        header: lines before the numbers, without comment marks.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    header: tuple[str, ...] = ()


def text_of(content: bytes) -> str:
    """Decode a text file: UTF-8, UTF-16 with a mark, else Latin-1."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_instrument_table(content: bytes, where: str) -> InstrumentTable:
    """Read a table of numbers with its header.

    Separators are found by counting: semicolons and tabs before commas, because a comma beside
    them is a decimal one; else blanks.

    Raises:
        DataError: there are no numbers, or rows of unequal length; it names file and row.
    """
    fast = _plain(content)
    if fast is not None:
        return InstrumentTable((), fast)
    lines = [line.rstrip("\r") for line in text_of(content).split("\n")]
    numbered = [(n, line.strip()) for n, line in enumerate(lines, start=1) if line.strip()]
    numbered = [(n, _uncommented(line)) for n, line in numbered]
    split = _splitter([line for _, line in numbered[:200]])
    first = next(
        (i for i, (_, line) in enumerate(numbered[: _MOST_HEADERS + 1]) if _numeric(split(line))),
        None,
    )
    if first is None:
        raise DataError(
            f"{where} holds no numbers in its first {min(len(numbered), _MOST_HEADERS)} lines; a "
            "table of numbers was expected, with header lines before them at most"
            f"{'; write times of day as seconds' * any(_CLOCK.search(x) for _, x in numbered[:9])}."
        )
    rows = [split(line) for _, line in numbered[first:]]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    for (number, _), row in zip(numbered[first:], rows, strict=True):
        if len(row) != width:
            raise DataError(f"{where}, row {number} has {len(row)} cells; {width} were expected.")
    try:
        values = np.array([[_value(cell) for cell in row] for row in rows], np.float64)
    except ValueError:
        number, column, cell = next(
            (n, column, cell)
            for (n, _), row in zip(numbered[first:], rows, strict=True)
            for column, cell in enumerate(row, start=1)
            if cell and not _NUMBER.fullmatch(cell)
        )
        raise DataError(
            f"{where}, row {number}, column {column} holds '{cell[:20]}'; a number was expected."
        ) from None
    header = [line for _, line in numbered[:first]]
    names = _names(header, split, width)
    return InstrumentTable(names, values, tuple(header))


def _names(header: list[str], split: Callable[[str], list[str]], width: int) -> tuple[str, ...]:
    """Return the names of the columns, with the units that stand in a line below them."""

    def cells(line: str) -> tuple[str, ...]:
        return tuple(cell.strip(" \"'") for cell in split(line))

    names = cells(header[-1]) if header else ()
    if len(names) != width:
        return ()
    above = cells(header[-2]) if len(header) > 1 else ()
    units = all(_UNIT.fullmatch(name) for name in names if name)
    if units and len(above) == width and not any(map(_UNIT.fullmatch, above)):
        return tuple(f"{name} [{unit.strip('[]()')}]" for name, unit in zip(above, names))
    return names


def sample_interval(header: tuple[str, ...]) -> float | None:
    """Return the seconds between values that a head names, beside the name or below it; or None.

    Example:
        >>> sample_interval(("X,CH1,Start,Increment", "Sequence,Volt,0.0,5e-05"))
        5e-05
    """
    lines = [[cell.strip(" \"'") for cell in re.split("[,;\t]", line)] for line in header]
    for row, below in zip(lines, [*lines[1:], []]):
        for column, name in enumerate(row):
            if not _INTERVAL.search(name):
                continue
            beside = row[column + 1] if column + 1 < len(row) else ""
            under = below[column] if column < len(below) else ""
            for text in (beside, under):
                number = re.search(r"[\d.]+(e[+-]?\d+)?$", text, re.IGNORECASE)
                if number is not None and _NUMBER.fullmatch(number[0]) and float(number[0]) > 0:
                    return float(number[0])
    return None


def without_axes(table: InstrumentTable) -> NDArray[np.float64] | None:
    """Return the counts of a matrix with the largest amplitude first, without its axes.

    The first row, or the line of names, and the first column are axes if they have equal steps.
    None where there is no axis along the phases, or something else than counts inside.
    """
    values = table.values
    if min(values.shape) < _LEAST_AXIS:
        return None
    named = [cell for cell in table.names[1:] if _NUMBER.fullmatch(cell)]
    if table.names and len(named) == len(table.names) - 1:
        phases, rows = np.array([_value(cell) for cell in named]), values
    else:
        phases, rows = values[0, 1:], values[1:]
    if not _is_axis(phases):
        return None
    amplitudes = rows[:, 0]
    inner = rows
    if _is_axis(amplitudes):
        inner = rows[:, 1:]
        if amplitudes[0] < amplitudes[-1]:
            inner = inner[::-1]
    counts = (inner >= 0).all() and (inner == np.rint(inner)).all()
    return inner if counts else None


def _is_axis(values: NDArray[np.float64]) -> bool:
    steps = np.diff(values)
    return bool(steps[0] != 0 and np.ptp(steps) <= 0.02 * abs(float(steps.mean())))


def _plain(content: bytes) -> NDArray[np.float64] | None:
    """Return a table of bare numbers, divided by commas or blanks; None of any other."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.translate(None, _PLAIN):
        return None
    separator = "," if b"," in content else None
    try:
        return np.loadtxt(BytesIO(content), np.float64, comments=None, delimiter=separator, ndmin=2)
    except ValueError:  # an empty cell, rows of unequal length
        return None


def _uncommented(line: str) -> str:
    for mark in _COMMENTS:
        if line.startswith(mark):
            return line[len(mark) :].strip()
    return line


def _splitter(lines: list[str]) -> Callable[[str], list[str]]:
    """Return what divides a line into cells."""
    share = {mark: np.mean([mark in line for line in lines]) for mark in ";\t,"}
    if share[";"] > 0.5:
        separator: str | None = ";"
    elif share["\t"] > 0.5:
        separator = "\t"
    elif share[","] > 0.5:
        separator = ","
    else:
        separator = None

    def split(line: str) -> list[str]:
        cells = [cell.strip() for cell in line.split(separator)]
        while len(cells) > 1 and not cells[-1]:  # a separator at the end of the line
            cells.pop()
        return cells

    return split


def _numeric(cells: list[str]) -> bool:
    return any(cells) and all(not cell or _NUMBER.fullmatch(cell) for cell in cells)


def _value(cell: str) -> float:
    return float(cell.replace(",", ".")) if cell else float("nan")
