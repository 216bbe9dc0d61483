"""What the search and the training logged about themselves."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Series = tuple[tuple[float, float], ...]
ORDER = ("search", "train")


@dataclass(frozen=True, slots=True)
class History:
    """One stage: ``(step, value)`` of training loss and of validation AP, and epochs' ends."""

    loss: Series = ()
    ap: Series = ()
    epochs: tuple[int, ...] = ()


def read_histories(run: Path | None) -> dict[str, History]:
    """Read ``logs/<stage>/metrics.csv`` of a run's folder, search first; {} where none is there.

    A file that is not such a log is passed over: a report does not fail for want of a curve.
    """
    if run is None:
        return {}
    # The finalists of a search are many and short: their figures are in finalists.json.
    found = (p for p in run.glob("logs/*/metrics.csv") if not p.parent.name.startswith("final_"))
    paths = sorted(found, key=lambda p: (_rank(p), p.parent.name))
    histories = {path.parent.name: _read(path) for path in paths}
    return {stage: history for stage, history in histories.items() if history.loss or history.ap}


def epoch_means(history: History) -> Series:
    """The loss averaged over each epoch, at the epoch's middle step."""
    means = []
    for epoch in sorted(set(history.epochs)):
        inside = [point for point, own in zip(history.loss, history.epochs) if own == epoch]
        steps, losses = zip(*inside)
        means.append((sum(steps) / len(steps), sum(losses) / len(losses)))
    return tuple(means)


def _rank(path: Path) -> int:
    stage = path.parent.name
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _read(path: Path) -> History:
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        rows = list(csv.DictReader(stream))
    with_loss = [row for row in rows if _number(row.get("train_loss")) is not None]
    return History(
        loss=_series(with_loss, "train_loss"),
        ap=_series(rows, "validation_ap"),
        epochs=tuple(int(_number(row.get("epoch")) or 0) for row in with_loss),
    )


def _series(rows: Sequence[dict[str, str]], name: str) -> Series:
    found = []
    for row in rows:
        value = _number(row.get(name))
        if value is not None:
            found.append((_number(row.get("step")) or 0.0, value))
    return tuple(found)


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
