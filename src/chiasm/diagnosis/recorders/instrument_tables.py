"""Tables of numbers as instruments write them: any separator, decimal commas, header lines."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.recorders.clock_times import clock_seconds
from chiasm.diagnosis.recorders.text_tables import (
    NUMBER,
    is_numeric,
    plain_table,
    splitter,
    text_of,
    uncommented,
    value_of,
)
from chiasm.errors import DataError

_MOST_HEADERS = 100  # lines
# A row of units below the names of columns.
_UNIT = re.compile(
    r"[\[(]?\s*(in\s+)?(p|n|u|µ|μ|m|k)?(s|sec|seconds?|v|volts?|a|amperes?|c|hz|deg|degrees?|°|rad|%|"
    r"db\w*)?\s*[\])]?",
    re.IGNORECASE,
)
# A line such as 'Sampling rate [kHz]: 20' or 'Sample Interval;0.4;us': name, unit, number, unit.
_FACT = re.compile(
    r"\s*[\"']?([^:=;,\t\"'\[(]+?)[\"']?\s*(?:[\[(]([^\])]*)[\])]\s*)?[:=;,\t][:=;,\t\s]*[\"']?"
    r"([+-]?(?:\d{1,3}(?:,\d{3}){2,}(?!\d)|\d+(?:[.,]\d+)?)(?:[eE][+-]?\d+)?)"
    r"[\"';,\t\s\[(]*([A-Za-zµμ/]*)"
)
_NAME_WITH_UNIT = re.compile(r"([^\[(]+?)\s*[\[(]([^\])]*)[\])]\s*")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){2,}")
# Units of a rate and of a time, whatever the case of their letters, and their prefixes.
_OF_RATE = re.compile(r"(k|m|g)?(?:s/s|sa(?:/s)?|sps|samples?/s(?:ec)?|hz|hertz)", re.IGNORECASE)
_OF_TIME = re.compile(r"(p|n|u|µ|μ|m)?(?:s|sec|seconds?)", re.IGNORECASE)
_PREFIXES_OF_RATE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_PREFIXES_OF_TIME = {"": 1.0, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3}
_FEW_ROWS, _TEXT_SHARE = 5, 0.9


@dataclass(frozen=True, slots=True, eq=False)
class InstrumentTable:
    """A table of numbers.

    Attributes:
        names: of the columns, as written, or () where no line names them.
        values: ``(R, C)`` float64; NaN where a cell is empty.
        header: lines before the numbers, without comment marks.
        facts: names and numbers that lines of the header hold, rates in Hz and times in seconds.
        texts: columns that hold texts, e.g. a time of day; their values are NaN.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    header: tuple[str, ...] = ()
    facts: tuple[tuple[str, float], ...] = ()
    texts: tuple[int, ...] = ()


def read_instrument_table(content: bytes, where: str) -> InstrumentTable:
    """Read a table of numbers with its header.

    Separators are found by counting: semicolons and tabs before commas, because a comma beside
    them is a decimal one; else blanks.

    Raises:
        DataError: there are no numbers, or rows of unequal length; it names file and row.
    """
    fast = plain_table(content)
    if fast is not None:
        return InstrumentTable((), fast)
    lines = text_of(content).split("\n")
    numbered = [(n, line.strip()) for n, line in enumerate(lines, start=1) if line.strip()]
    numbered = [(n, uncommented(line)) for n, line in numbered]
    split = splitter([line for _, line in numbered[:200]])
    cells = [split(line) for _, line in numbered]
    first, texts = _first_row(cells)
    if first is None:
        raise DataError(
            f"{where} holds no numbers in its first {min(len(numbered), _MOST_HEADERS)} lines; a "
            "table of numbers was expected, with header lines before them at most: take out "
            "columns and lines of texts and units behind numbers; hexadecimal ones are not read."
        )
    rows = cells[first:]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if first and width == 2 * len(cells[first - 1]) and _are_halves(rows):
        if width > 2:
            raise DataError(
                f"{where} has {width} cells in a row for {width // 2} names: decimal commas "
                "between commas cannot be told from these. Save it with semicolons between the "
                "cells, or with decimal points."
            )
        rows, width = [[".".join(row)] for row in rows], 1
    for (number, _), row in zip(numbered[first:], rows, strict=True):
        if len(row) != width:
            raise DataError(
                f"{where}, row {number} has {len(row)} cells; {width} were expected. Take out "
                "lines that are no rows of the table, such as sums below it, and commas that "
                "divide thousands."
            )
    try:
        values = np.array(
            [[value_of(c, text=k in texts) for k, c in enumerate(row)] for row in rows], np.float64
        )
    except ValueError:
        number, column, cell = next(
            (n, column, cell)
            for (n, _), row in zip(numbered[first:], rows, strict=True)
            for column, cell in enumerate(row, start=1)
            if cell and column - 1 not in texts and not NUMBER.fullmatch(cell)
        )
        raise DataError(
            f"{where}, row {number}, column {column} holds '{cell[:20]}'; a number was expected. "
            "If it marks a value beyond the recorder's range, record with a wider range or put the "
            "largest value there; take out other rows that hold no numbers, units behind numbers, "
            "and marks that divide thousands."
        ) from None
    header = [line for _, line in numbered[:first]]
    facts = _facts(header, cells[:first])
    lead = _empty_lead(values)
    if lead and not texts:  # facts of the recorder stand beside the first numbers
        beside = [c for c in cells[:first] if len(c) == width and is_numeric(c[lead:])]
        early = [[value_of(cell) for cell in c[lead:]] for c in beside]
        values = np.concatenate(
            [np.array(early).reshape(len(early), width - lead), values[:, lead:]]
        )
        return InstrumentTable((), values, tuple(header), facts)
    names = _names(cells[:first], width)
    return _with_clocks(InstrumentTable(names, values, tuple(header), facts, texts), rows)


def _are_halves(rows: list[list[str]]) -> bool:
    """Return whether all cells can be the parts of numbers that decimal commas divide."""
    return all(
        len(row) % 2 == 0 and all(cell.isdigit() for cell in row[1::2]) and all(row[::2])
        for row in rows
    )


def _with_clocks(table: InstrumentTable, rows: list[list[str]]) -> InstrumentTable:
    """Return a table whose columns of times of day are seconds; dates alone stay texts."""
    names, values, texts = list(table.names), table.values, list(table.texts)
    for column in table.texts:
        seconds = clock_seconds([row[column] for row in rows])
        if seconds is not None and np.ptp(seconds) > 0:
            values[:, column] = seconds
            texts.remove(column)
            if names:
                names[column] = f"time of '{names[column]}' [s]"
    return InstrumentTable(tuple(names), values, table.header, table.facts, tuple(texts))


def _first_row(cells: list[list[str]]) -> tuple[int | None, tuple[int, ...]]:
    """Return the first row of numbers, and which columns hold texts; None without any."""
    looked = cells[: _MOST_HEADERS + 1]
    first = next((i for i, row in enumerate(looked) if is_numeric(row)), None)
    if first is not None:
        return first, ()
    # A time of day or a name in each row: the other columns are numbers all the same.
    width = Counter(map(len, cells[-_MOST_HEADERS:])).most_common(1)[0][0] if cells else 0
    last = [row for row in cells[-_MOST_HEADERS:] if len(row) == width]
    texts = tuple(
        k
        for k in range(width)
        if np.mean([bool(row[k]) and not NUMBER.fullmatch(row[k]) for row in last]) > _TEXT_SHARE
    )
    if len(last) < _FEW_ROWS or not 0 < len(texts) < width:
        return None, ()

    def whole(row: list[str]) -> bool:
        rest = [c for k, c in enumerate(row) if k not in texts]
        return len(row) == width and is_numeric(rest)

    return next((i for i, row in enumerate(looked) if whole(row)), None), texts


def _empty_lead(values: NDArray[np.float64]) -> int:
    """Return how many of the first columns are empty in every row, if not all are."""
    empty = np.asarray(np.isnan(values).all(axis=0))
    lead = int(np.argmin(empty)) if not empty.all() else 0
    return lead if empty[:lead].all() else 0


def _names(header: list[list[str]], width: int) -> tuple[str, ...]:
    """Return the names of the columns, joined with units that stand below them; () without any."""

    def fitting(row: list[str]) -> list[str]:
        more = row[width:]
        fits = len(row) == width or (len(row) > width and all(map(NUMBER.fullmatch, more)))
        names = [cell.strip(" \"'") for cell in row[:width]] if fits else []
        # A line of facts, such as a time of day, may be as wide.
        clock = bool(names) and ":" in names[-1] and not any(c.isalpha() for c in names[-1])
        return [] if clock else names

    last = fitting(header[-1]) if header else []
    above = [cell.strip(" \"'") for cell in header[-2]][:width] if len(header) > 1 else []
    if last and len(above) == width and all(map(_UNIT.fullmatch, last)) and any(last):
        return tuple(f"{name} {unit}".strip() for name, unit in zip(above, last))
    return tuple(last)


def _facts(lines: list[str], cells: list[list[str]]) -> tuple[tuple[str, float], ...]:
    """Return numbers of a header with their names: beside them, or above in a row of names."""
    found = []
    inner = [part for line in lines for part in re.split(r"[,;\t]", line)[1:] if "=" in part]
    for text in [*lines, *inner]:
        match = _FACT.match(text)
        if match is not None:
            found.append((match[1], _number_of(match[3]) * scale_of(match[2] or match[4])))
    for above, row in pairwise(cells):
        if len(above) == len(row) > 1:
            for name, cell in zip(above, row):
                named = _NAME_WITH_UNIT.fullmatch(name)
                if NUMBER.fullmatch(cell):
                    scale = scale_of(named[2]) if named else 1.0
                    found.append((named[1] if named else name, value_of(cell) * scale))
    return tuple(found)


def _number_of(digits: str) -> float:
    """Return a number with a decimal point or comma, or with commas between thousands."""
    grouped = _THOUSANDS.fullmatch(digits) is not None
    return float(digits.replace(",", "" if grouped else "."))


def is_unit(word: str) -> bool:
    """Return whether a word is a unit of a rate or a time."""
    return bool(_OF_RATE.fullmatch(word) or _OF_TIME.fullmatch(word))


def scale_of(unit: str) -> float:
    """Return Hz or seconds of a unit of a rate or a time; 1 of any other.

    Example:
        >>> scale_of("MS/s"), scale_of("us"), scale_of("V")
        (1000000.0, 1e-06, 1.0)
    """
    if rate := _OF_RATE.fullmatch(unit.strip()):
        return _PREFIXES_OF_RATE[(rate[1] or "").lower()]
    time = _OF_TIME.fullmatch(unit.strip())
    return _PREFIXES_OF_TIME[(time[1] or "").lower()] if time else 1.0
