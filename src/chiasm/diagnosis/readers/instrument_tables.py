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
            "table of numbers was expected, with header lines before them at most."
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
    names = tuple(cell.strip(" \"'") for cell in split(header[-1])) if header else ()
    return InstrumentTable(names if len(names) == width else (), values, tuple(header))


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
