"""Read the rows of a table as text: CSV in the ways of spreadsheets, JSON lines, or Parquet."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chiasm.errors import DataError

_JSON_LINES = frozenset({".jsonl", ".ndjson"})
SUFFIXES = frozenset({".csv", ".tsv", ".parquet", *_JSON_LINES})
# What stands between the cells, with its name.
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the column names in lower case, and each row as column to text, ``""`` if empty.

    CSV is UTF-8. Its first row tells what separates the cells: commas, semicolons, tabs or bars;
    a spreadsheet's ``sep=;`` above it is obeyed. Where that is no comma, numbers with a decimal
    comma get a point. JSON lines have one object a line; what is nested in it stays JSON. Raises
    ``DataError`` for a file that cannot be read, a duplicate column, and a CSV row with more cells
    than columns.
    """
    suffix, separator = path.suffix.lower(), ","
    if suffix == ".parquet":
        columns, rows = _parquet(path)
    elif suffix in _JSON_LINES:
        columns, rows = _json_lines(path)
    else:
        columns, rows, separator = _csv(path)
    names = [column.strip().lower() for column in columns]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise DataError(f"{path} has the column '{duplicates[0]}' twice; remove or rename one.")
    for number, row in enumerate(rows, start=1):
        if len(row) > len(names):
            decimal = " Numbers with a decimal comma need semicolons between the columns."
            raise DataError(
                f"{path}, row {number} has {len(row)} cells for {len(names)} columns; put texts "
                f"that hold a {_SEPARATORS[separator]} between double quotes."
                f"{decimal if separator == ',' else ''}"
            )
    return names, [
        dict(zip(names, (*(cell.strip() for cell in row), *[""] * (len(names) - len(row)))))
        for row in rows
    ]


def close_name(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that ``name`` probably misspells, or ``""``."""
    names = list(names)
    if name in names or len(name) < 3:
        return ""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.8)), "")


def _csv(path: Path) -> tuple[list[str], list[list[str]], str]:
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        text = path.read_bytes().decode("utf-8-sig")
        separator, text = _separator(text)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        rows = [row for row in lines if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DataError(
            f"{path} cannot be read as UTF-8 CSV ({cause}); save it as 'CSV UTF-8'."
        ) from cause
    if separator != ",":
        rows = [[_with_point(cell) for cell in row] for row in rows]
    return (rows[0], rows[1:], separator) if rows else ([], [], separator)


def _separator(text: str) -> tuple[str, str]:
    """Return what separates the cells, and the text below a line that says so."""
    first, _, rest = text.lstrip().partition("\n")
    if first[:4].lower() == "sep=" and (said := first[4:].rstrip("\r")) in _SEPARATORS:
        return said, rest
    outside = re.sub(r'"[^"]*"', "", first)
    return max(_SEPARATORS, key=outside.count), text


def _with_point(cell: str) -> str:
    number = cell.strip()
    return number.replace(",", ".") if _DECIMAL_COMMA.fullmatch(number) else cell


def _json_lines(path: Path) -> tuple[list[str], list[list[str]]]:
    records: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
            if line.strip():
                records.append(json.loads(line))
                if not isinstance(records[-1], dict):
                    raise ValueError(f"line {number} holds no object")
    except (OSError, ValueError) as cause:
        raise DataError(
            f"{path} cannot be read as JSON lines ({cause}); each line is an object such as "
            '{"rgb": "0.png", "label": 0}.'
        ) from cause
    columns = list(dict.fromkeys(name for record in records for name in record))
    return columns, [[_json_text(record.get(name)) for name in columns] for record in records]


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    import pandas as pd  # slow to import, and not part of a station, which may read CSV

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as cause:
        raise DataError(f"{path} cannot be read as Parquet ({cause}).") from cause
    text = table.astype(object).where(table.notna(), "")
    rows = [[str(cell) for cell in row] for row in text.itertuples(index=False)]
    return [str(column) for column in table.columns], rows
