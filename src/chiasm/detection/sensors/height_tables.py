"""Read height maps that profilers export as text: a table of numbers below lines of facts.

Gocator (LMI) writes sections and a row ``Y\\X`` of positions; Keyence and others write lines such
as ``XY calibration,29.6,um`` and then a row of numbers for each row of pixels. What is not a row of
the table is read as facts: pitches and units by their names.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError

UNITS = {
    **{"m": 1.0, "metre": 1.0, "meter": 1.0, "cm": 0.01, "mm": 1e-3, "millimeter": 1e-3},
    **{"um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micron": 1e-6, "nm": 1e-9, "inch": 0.0254},
}
_MISSING = frozenset(
    {"", "-", "--", "---", "*", "***", "nan", "-nan", "inf", "-inf", "n/a", "null"}
)
_LEAST_COLUMNS, _LEAST_ROWS = 3, 3
_PITCH = r"(resolution|pitch|scale|step|spacing|interval|calibration|pixel ?size)"
_FACTS = {
    "pitch_xy": re.compile(
        rf"(\bxy|\bx/y|^pixel|lateral).*{_PITCH}|^{_PITCH}$|pixel ?(size|pitch)"
    ),
    "pitch_x": re.compile(rf"(^|\W)(x|horizontal|column).*{_PITCH}"),
    "pitch_y": re.compile(rf"(^|\W)(y|vertical|row|travel).*{_PITCH}"),
    "unit_z": re.compile(rf"(^|\W)(z|height)\W*.*({_PITCH}|unit)|^unit$"),
}


@dataclass(frozen=True, slots=True, eq=False)
class HeightTable:
    """A table of heights.

    Attributes:
        values: ``(H, W)`` float64, NaN where a cell is empty.
        pitch_x, pitch_y: metres between columns and between rows; None where the file says none.
        unit_m: metres of one unit of the values; None likewise.
        grey: ``(H, W)`` intensities of the same pixels, or None.
        remarks: what was assumed.
    """

    values: NDArray[np.float64]
    pitch_x: float | None = None
    pitch_y: float | None = None
    unit_m: float | None = None
    grey: NDArray[np.float64] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Block:
    """Rows of numbers that stand one below the other.

    Attributes:
        title: words of the section that it stands in.
        x, y: positions of columns and rows; empty without them.
        rows: texts of the cells.
    """

    title: str
    x: list[float]
    y: list[float]
    rows: list[list[str]]


def height_table(content: bytes, source: str) -> HeightTable:
    """Decode a table of heights or of points; ``source`` names it in messages.

    Separators are commas, semicolons, tabs or blanks, and decimals may be written with a comma
    where another separator is used.

    Raises:
        DataError: no table of numbers is found, or several that may be meant.
    """
    rows, decimal = _rows(content, source)
    blocks, facts = _blocks(rows, decimal)
    blocks = [block for block in blocks if len(block.rows) >= _LEAST_ROWS]
    if not blocks:
        raise DataError(
            f"{source} holds no table of numbers: rows of equal length, a row for each row of "
            "pixels. Export the height map as CSV, or as a TIFF or .npy file."
        )
    intensities = [block for block in blocks if "intensity" in block.title.lower()]
    heights = [block for block in blocks if block not in intensities]
    if len(heights) != 1:
        raise DataError(
            f"{source} holds {len(heights)} tables of heights; export each part to its own file."
        )
    values = _numbers(heights[0].rows, decimal)
    table = _with_facts(HeightTable(values), facts, heights[0])
    for block in intensities:
        grey = _numbers(block.rows, decimal)
        if grey.shape == values.shape:
            table = replace(table, grey=grey)
    return table


def _rows(content: bytes, source: str) -> tuple[list[list[str]], str]:
    """Return the cells of each line, and the sign of decimals."""
    for encoding in (
        "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig",
        "cp1252",
    ):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        text = "\0"
    if "\0" in text:
        raise DataError(
            f"{source} is of no known format. Depth and heights are read from TIFF, PNG, npy, npz, "
            "OpenEXR and CSV, points from these and from PLY and PCD."
        )
    lines = text.splitlines()
    sample = max(lines, key=len, default="")
    separator = next((mark for mark in (";", "\t") if mark in sample), "")
    if not separator:
        # Blanks divide numbers whose decimals are written with a comma.
        blanks = len(sample.split()) >= _LEAST_COLUMNS and not re.search(r",(?!\d)", sample)
        separator = " " if blanks or "," not in sample else ","
    decimal = "," if separator != "," and "," in sample and "." not in sample else "."
    if separator == " ":
        return [line.split() for line in lines], decimal
    reader = csv.reader(lines, delimiter=separator)
    return [[cell.strip() for cell in row] for row in reader], decimal


def _number(text: str, decimal: str) -> float | None:
    """Return a number, NaN of a cell without one, or None of another text."""
    if text.lower() in _MISSING:
        return math.nan
    try:
        return float(text.replace(",", ".") if decimal == "," else text)
    except ValueError:
        return None


def _numbers(rows: Sequence[Sequence[str]], decimal: str) -> NDArray[np.float64]:
    values = np.array([[_number(cell, decimal) for cell in row] for row in rows], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _blocks(rows: list[list[str]], decimal: str) -> tuple[list[_Block], list[list[str]]]:
    """Divide lines into tables of numbers and lines of facts."""
    blocks: list[_Block] = []
    facts: list[list[str]] = []
    title, width = "", -1
    for row in rows:
        cells = row[:-1] if len(row) > 1 and row[-1] == "" and len(row) - 1 == width else row
        numeric = _is_numeric(cells, decimal)
        if numeric and len(cells) == width:
            blocks[-1].rows.append(cells)
            continue
        positions = _axis(cells, decimal)
        if positions is not None:
            blocks.append(_Block(title, positions, [], []))
            width = len(cells)
            continue
        if numeric and len(cells) >= _LEAST_COLUMNS:
            blocks.append(_Block(title, [], [], [cells]))
            width = len(cells)
            continue
        width = -1
        filled = [cell for cell in row if cell]
        if filled:
            facts.append(row)
            if len(filled) == 1 and filled[0].lower() != "end":
                title = filled[0]
    for block in blocks:
        if block.x:  # the first column holds the position of the row
            block.y = [_number(row[0], decimal) or 0.0 for row in block.rows]
            block.rows = [row[1:] for row in block.rows]
    return blocks, facts


def _is_numeric(cells: Sequence[str], decimal: str) -> bool:
    return any(cells) and all(_number(cell, decimal) is not None for cell in cells)


def _axis(cells: Sequence[str], decimal: str) -> list[float] | None:
    """Return the positions of the columns in a row such as ``Y\\X,0,0.1,0.2``, or None."""
    if len(cells) <= _LEAST_COLUMNS or not re.fullmatch(r"[yz]?\s*[\\/|]?\s*x?", cells[0].lower()):
        return None
    values = [_number(cell, decimal) for cell in cells[1:]]
    if any(value is None or math.isnan(value) for value in values):
        return None
    return [float(value) for value in values if value is not None]


def _with_facts(table: HeightTable, facts: list[list[str]], block: _Block) -> HeightTable:
    """Return a table with the pitches and units that its file names."""
    found: dict[str, float] = {}
    units: dict[str, float | None] = {}
    for name, value, unit in _named(facts):
        for fact, pattern in _FACTS.items():
            if pattern.search(name) and fact not in found:
                if value is not None:
                    found[fact] = value
                units.setdefault(fact, unit)
                break
    is_gocator = any(row[:1] == ["CSV Version"] for row in facts)
    millimetre = 1e-3 if is_gocator else None
    remarks = ["Gocator's tables are in millimetres."] if is_gocator else []

    def length(fact: str) -> float | None:
        unit = units.get(fact) or millimetre
        return None if fact not in found or unit is None else found[fact] * unit

    pitch_x, pitch_y = length("pitch_x"), length("pitch_y")
    both = length("pitch_xy")
    unit_m = units.get("unit_z") or millimetre
    count, whole = found.get("unit_z", 1.0), _are_whole(table.values)
    if unit_m is not None and not is_gocator and count not in (0.0, 1.0):
        # A resolution in height is the length of one count, where there are counts.
        remarks.append(
            f"A count is {count * unit_m:g} m high, as the file says."
            if whole
            else f"Heights are taken for multiples of {unit_m:g} m; the resolution that the file "
            "names is not counted in."
        )
        unit_m *= count if whole else 1.0
    lateral = units.get("pitch_x") or millimetre or unit_m
    if len(block.x) > 1 and lateral:
        pitch_x = abs(block.x[-1] - block.x[0]) / (len(block.x) - 1) * lateral
        if len(block.y) > 1:
            pitch_y = abs(block.y[-1] - block.y[0]) / (len(block.y) - 1) * lateral
    return replace(
        table,
        pitch_x=pitch_x or both,
        pitch_y=pitch_y or both,
        unit_m=unit_m,
        remarks=tuple(remarks),
    )


def _are_whole(values: NDArray[np.float64]) -> bool:
    numbers = values[np.isfinite(values)]
    return bool((numbers == np.rint(numbers)).all())


def _named(facts: list[list[str]]) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield name, number and unit of each fact, of lines of pairs and of tables of facts."""
    for row, below in zip(facts, [*facts[1:], []]):
        cells = [cell.strip('"').strip() for cell in row]
        pairs = [(cells[0], cells[1] if len(cells) > 1 else "")]
        # A line of names over a line of values: Gocator's sections.
        if len(row) > 2 and len(below) == len(row) and _value(row[1]) is None:
            pairs = list(zip(cells, (cell.strip('"') for cell in below)))
        for name, text in pairs:
            inside = re.search(r"[\[(]\s*([^\])]+)[\])]", name)
            later = cells[2] if len(pairs) == 1 and len(cells) > 2 else ""
            number, attached = _value(text), re.sub(r"^[-+\d.,eE\s]+", "", text)
            unit = next(
                (
                    UNITS[word.strip().lower()]
                    for word in (later, inside[1] if inside else "", attached, text)
                    if word.strip().lower() in UNITS
                ),
                None,
            )
            yield name.lower().replace("_", " "), number, unit


def _value(text: str) -> float | None:
    match = re.match(r"\s*[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?", text)
    return float(match[0].replace(",", ".")) if match else None
