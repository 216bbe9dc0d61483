"""Read the rows of a CSV or Parquet table as text."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable
from pathlib import Path

from chiasm.errors import DataError

SUFFIXES = frozenset({".csv", ".parquet"})


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the column names in lower case, and each row as column to text, ``""`` if empty.

    Raises ``DataError`` for a file that cannot be read, a duplicate column, and a CSV row with
    more cells than columns. CSV is UTF-8, separated by commas.
    """
    columns, rows = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    names = [column.strip().lower() for column in columns]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise DataError(f"{path} has the column '{duplicates[0]}' twice; remove or rename one.")
    for number, row in enumerate(rows, start=1):
        if len(row) > len(names):
            raise DataError(
                f"{path}, row {number} has {len(row)} cells for {len(names)} columns; put texts "
                "that hold a comma between double quotes."
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


def _csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DataError(
            f"{path} cannot be read as UTF-8 CSV ({cause}); save it as 'CSV UTF-8'."
        ) from cause
    return (rows[0], rows[1:]) if rows else ([], [])


def _parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    import pandas as pd  # slow to import, and not part of a station, which may read CSV

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as cause:
        raise DataError(f"{path} cannot be read as Parquet ({cause}).") from cause
    text = table.astype(object).where(table.notna(), "")
    rows = [[str(cell) for cell in row] for row in text.itertuples(index=False)]
    return [str(column) for column in table.columns], rows
