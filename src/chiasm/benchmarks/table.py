"""A table of a paper as data: which runs stand behind each entry, and what is printed there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chiasm.benchmarks.store import Result
from chiasm.benchmarks.trial import Trial

# Figures of which less is better.
LESS_IS_BETTER = (
    "cost.fit_minutes",
    "speed.latency_p50_s",
    "speed.latency_p95_s",
    "speed.peak_memory_mb",
    "speed.disk_mb",
    "probability.ece.after",
    "pooled.ece",
    "contrast",
    "restless",
    "cost.million_weights",
    "gflops.paper",
    "gflops.true",
    "gap.before.distance",
    "gap.after.distance",
)
# Figures of all test recordings of an entry's runs together, not means over runs.
POOLED = "pooled."
Pooled = Callable[["Entry"], tuple[float, Any, Any] | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a table.

    Attributes:
        row, column: where it stands.
        figure: path of the figure in ``metrics.json``, e.g. ``"region.aupro.0.3"``.
        cells: runs whose mean it is: categories or seeds; none leaves it empty.
        printed: the paper's value in the same unit, where it has one.
        why_empty: where there are no cells.
        by: kind of group by which the runs' tests are apart from training; "" for parts.
    """

    row: str
    column: str
    figure: str
    cells: tuple[Trial, ...] = ()
    printed: float | None = None
    why_empty: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table to be filled.

    Attributes:
        name: of the command line.
        title: what it shows.
        source: which table of which paper, or "".
        entries: row by row.
        series: columns are numbers of an axis with this name, so that lines are drawn; "" else.
        notes: remarks.
        compared: rows whose test recordings are compared in pairs (see ``paired``).
        ranked: whether best and second best are marked.
        verdict: what may be said of the comparisons, in sentences.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]
    source: str = ""
    series: str = ""
    notes: tuple[str, ...] = field(default=())
    compared: tuple[Any, ...] = ()
    ranked: bool = True
    verdict: tuple[str, ...] = ()

    @property
    def rows(self) -> list[str]:
        """Labels in their order."""
        return list(dict.fromkeys(entry.row for entry in self.entries))

    @property
    def columns(self) -> list[str]:
        """Labels in their order."""
        return list(dict.fromkeys(entry.column for entry in self.entries))

    @property
    def cells(self) -> list[Trial]:
        """Every run once, in the order in which it is needed."""
        found = {cell.key: cell for entry in self.entries for cell in entry.cells}
        return list(found.values())


@dataclass(frozen=True, slots=True)
class Filled:
    """What is known of an entry.

    Attributes:
        entry: what it is of.
        value: mean over its cells that are done, or None.
        low, high: of one cell its bootstrap interval, of several the least and the largest.
        count: cells that are done.
        remark: why it is empty or not whole.
        weights: published weights that were used.
    """

    entry: Entry
    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    remark: str = ""
    weights: tuple[str, ...] = ()


def fill(
    table: Table, results: Mapping[str, Result], pooled: Pooled = lambda entry: None
) -> list[Filled]:
    """Join entries with results by the cells' keys; ``pooled`` gives figures of runs together."""
    return [_filled(entry, results, pooled) for entry in table.entries]


def _filled(entry: Entry, results: Mapping[str, Result], pooled: Pooled) -> Filled:
    if not entry.cells:
        return Filled(entry, None, remark=entry.why_empty)
    found = [results.get(cell.key) for cell in entry.cells]
    done = [one for one in found if one is not None and one.status == "done"]
    wrong = [one for one in found if one is not None and one.status != "done"]
    weights = tuple(sorted({one.weights for one in done if one.weights}))
    figures = [figure(one.metrics, entry.figure) for one in done]
    known = [one for one in figures if one is not None and one[0] is not None]
    remark = ""
    if wrong:
        remark = f"{wrong[0].status}: {wrong[0].error}"
    elif len(done) < len(found):
        remark = "not run" if not done else f"{len(done)} of {len(found)} runs"
    if entry.figure.startswith(POOLED) and done and not remark:
        together = pooled(entry)
        if together is not None:
            return Filled(entry, *together, len(done), remark, weights)
    if not known:
        return Filled(entry, None, remark=remark or "no such figure", weights=weights)
    values = [one[0] for one in known]
    if len(known) == 1:
        low, high = known[0][1:]
    else:
        low, high = min(values), max(values)
    return Filled(entry, float(np.mean(values)), low, high, len(known), remark, weights)


def figure(metrics: Mapping[str, Any], path: str) -> tuple[float, Any, Any] | None:
    """``(value, low, high)`` of a figure by its path; None where there is none.

    A key may hold dots, e.g. ``"0.3"``: the longest name that fits is taken.
    """
    parts = path.split(".")
    here: Any = metrics
    while parts:
        if parts == ["*"] and isinstance(here, Mapping):
            values = [one[0] for name in here if (one := figure(here, name)) is not None]
            return (float(np.mean(values)), None, None) if values else None
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if isinstance(here, Mapping) and name in here:
                here, parts = here[name], parts[length:]
                break
        else:
            return None
    if isinstance(here, Mapping):
        if here.get("value") is None:
            return None
        return float(here["value"]), here.get("low"), here.get("high")
    return None if here is None else (float(here), None, None)


def marks(filled: list[Filled]) -> dict[tuple[str, str], str]:
    """``"best"`` and ``"second"`` of every column, by row and column; ties share a mark."""
    found: dict[tuple[str, str], str] = {}
    for column in dict.fromkeys(one.entry.column for one in filled):
        own = [one for one in filled if one.entry.column == column and one.value is not None]
        less = bool(own) and own[0].entry.figure in LESS_IS_BETTER
        order = sorted({round(float(one.value or 0), 6) for one in own}, reverse=not less)
        for one in own:
            place = order.index(round(float(one.value or 0), 6))
            if place < 2:
                found[one.entry.row, column] = ("best", "second")[place]
    return found
