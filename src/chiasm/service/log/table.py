"""The log as lines of a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from chiasm.line.journal import cell
from chiasm.line.record import iso_time

# Column of the table to that of the log.
COLUMNS = {
    **{name: name for name in ("time", "station", "model", "source", "decision", "score")},
    **{name: name for name in ("p_value", "threshold")},
    "correction": "says",
    "corrected_by": "by",
    "corrected": "corrected",
    **{name: name for name in ("latency_ms", "error", "wing", "model_hash", "input_sha256", "id")},
    "asset": "asset",
}
_TIMES = frozenset({"time", "corrected"})


def csv_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the header with the first verdict, and then a line for each.

    Times are ISO 8601 in UTC; what is not known is empty.
    """
    rest = iter(rows)
    first = next(rest, None)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in chain([] if first is None else [first], rest):
        writer.writerow([_value(name, row[column]) for name, column in COLUMNS.items()])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    if first is None:
        yield text.getvalue()


def _value(name: str, value: Any) -> str:
    return iso_time(value) if name in _TIMES and value is not None else cell(value)
