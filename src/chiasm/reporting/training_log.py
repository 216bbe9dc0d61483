"""The logs that training writes to a run's folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Rows = list[dict[str, float]]
Series = tuple[tuple[float, float], ...]


def read_training_logs(run: Path | None) -> dict[str, Rows]:
    """Return the finite numbers of the rows of ``logs/<stage>/metrics.csv``, by stage and column.

    Without a run or a log the result is {}. A damaged file has rows without numbers: a report does
    not fail because a curve is missing.
    """
    logs: dict[str, Rows] = {}
    for path in sorted(run.glob("logs/*/metrics.csv")) if run is not None else ():
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            logs[path.parent.name] = [_numbers(row) for row in csv.DictReader(stream)]
    return logs


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    numbers = {}
    for column, text in row.items():
        try:
            value = float(text or "nan")
        except (TypeError, ValueError):
            continue
        if math.isfinite(value):
            numbers[column] = value
    return numbers
