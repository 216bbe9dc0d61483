"""A table as data: the trials behind each entry, the printed values, and how entries are filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.trial import Trial

# Figures whose lower values are better.
LOWER_IS_BETTER = (
    "cost.fit_minutes",
    "speed.latency_p50_s",
    "speed.latency_p95_s",
    "speed.peak_memory_mb",
    "speed.disk_mb",
    "probability.ece.after",
    "pooled.ece",
    "contrast_share",
    "restless",
    "cost.million_weights",
    "gflops.paper",
    "gflops.true",
    "gap.before.distance",
    "gap.after.distance",
)
# Figures of the joined test recordings of an entry's trials, not means over trials.
POOLED = "pooled."
NOT_RUN = "not run: as large as published; --methods runs it"
Pooled = Callable[["Entry"], tuple[float, Any, Any] | None]
# Of a filled table and the store of its runs: a figure of matplotlib, and facts for the JSON.
Draw = Callable[["Table", "Sequence[Filled]", ResultStore], tuple[Any, dict[str, Any]]]
STEPS = "cost.steps"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a table.

    Attributes:
        row, column: its labels.
        figure: path of the figure in ``metrics.json``, e.g. ``"region.aupro.0.3"``.
        trials: categories or seeds, over which the figure is averaged; none leaves it empty.
        printed: value of the paper in the same unit, if it has one.
        why_empty: reason if there are no trials.
        by: kind of group that separates test from training recordings; "" for parts.
    """

    row: str
    column: str
    figure: str
    trials: tuple[Trial, ...] = ()
    printed: float | None = None
    why_empty: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its entries.

    Attributes:
        name: on the command line.
        title: heading.
        source: the paper's table, or "".
        entries: row by row.
        series: name of a numeric axis if the columns are its values, drawn as lines; else "".
        notes: remarks.
        compared: comparisons of rows in pairs (see ``paired``).
        ranked: whether best and second best are marked.
        equal_steps: whether rows are compared at equal steps of training; the table says if not.
        draw: draws the picture instead of bars, lines or a heat map; its second result is added to
            the JSON.
        verdict: the outcome of the comparisons, in sentences.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]
    source: str = ""
    series: str = ""
    notes: tuple[str, ...] = field(default=())
    compared: tuple[Any, ...] = ()
    ranked: bool = True
    equal_steps: bool = False
    draw: Draw | None = None
    verdict: tuple[str, ...] = ()

    @property
    def rows(self) -> list[str]:
        """Return the labels in order."""
        return list(dict.fromkeys(entry.row for entry in self.entries))

    @property
    def columns(self) -> list[str]:
        """Return the labels in order."""
        return list(dict.fromkeys(entry.column for entry in self.entries))

    @property
    def trials(self) -> list[Trial]:
        """Return every trial once, in order of first use."""
        unique = {trial.key: trial for entry in self.entries for trial in entry.trials}
        return list(unique.values())


@dataclass(frozen=True, slots=True)
class Filled:
    """An entry with its value.

    Attributes:
        entry: the entry.
        value: mean over the finished trials, or None.
        low, high: bootstrap interval of one trial, minimum and maximum of several.
        count: number of finished trials.
        remark: reason if it is empty or incomplete.
        weights: published weights that the trials used.
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
    """Fill entries with the results of their trials; ``pooled`` joins trials for a figure."""
    return [_filled(entry, results, pooled) for entry in table.entries]


def _filled(entry: Entry, results: Mapping[str, Result], pooled: Pooled) -> Filled:
    if not entry.trials:
        return Filled(entry, None, remark=entry.why_empty)
    stored = [results[trial.key] for trial in entry.trials if trial.key in results]
    done = [result for result in stored if result.status == "done"]
    failed = [result for result in stored if result.status != "done"]
    weights = tuple(sorted({result.weights for result in done if result.weights}))
    figures = [f for result in done if (f := figure(result.metrics, entry.figure)) is not None]
    remark = ""
    if failed:
        remark = f"{failed[0].status}: {failed[0].error}"
    elif len(done) < len(entry.trials):
        remark = "not run" if not done else f"{len(done)} of {len(entry.trials)} runs"
    if entry.figure.startswith(POOLED) and done and not remark:
        joined = pooled(entry)
        if joined is not None:
            return Filled(entry, *joined, len(done), remark, weights)
    if not figures:
        return Filled(entry, None, remark=remark or "no such figure", weights=weights)
    values = [value for value, _, _ in figures]
    low, high = figures[0][1:] if len(figures) == 1 else (min(values), max(values))
    return Filled(entry, float(np.mean(values)), low, high, len(figures), remark, weights)


def steps_in_words(filled: Sequence[Filled]) -> str:
    """Return whether the runs of each column of steps made equally many of them; "" without one."""
    columns: dict[str, dict[int, list[str]]] = {}
    for item in filled:
        if item.entry.figure == STEPS and item.value is not None:
            rows = columns.setdefault(item.entry.column, {})
            # Of several runs in an entry, the extremes show whether they are equal.
            for value in {item.low or item.value, item.high or item.value}:
                rows.setdefault(round(value), []).append(item.entry.row)
    told = []
    for column, rows in columns.items():
        if len(rows) == 1:
            told.append(f"{column}: {min(rows)} in every run")
        else:
            each = "; ".join(f"{steps} in {', '.join(rows[steps])}" for steps in sorted(rows))
            told.append(f"{column}: unequal, so that the rows do not compare: {each}")
    return f"Steps of training. {'. '.join(told)}." if told else ""


def figure(metrics: Mapping[str, Any], path: str) -> tuple[float, Any, Any] | None:
    """Return ``(value, low, high)`` of a figure by its path; None if there is none.

    A key may hold dots, e.g. ``"0.3"``: the longest matching key is taken. ``*`` is the mean over
    all keys.
    """
    parts = path.split(".")
    node: Any = metrics
    while parts:
        if parts == ["*"] and isinstance(node, Mapping):
            values = [f[0] for name in node if (f := figure(node, name)) is not None]
            return (float(np.mean(values)), None, None) if values else None
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if isinstance(node, Mapping) and name in node:
                node, parts = node[name], parts[length:]
                break
        else:
            return None
    if isinstance(node, Mapping):
        if node.get("value") is None:
            return None
        return float(node["value"]), node.get("low"), node.get("high")
    return None if node is None else (float(node), None, None)


def marks(filled: list[Filled]) -> dict[tuple[str, str], str]:
    """Return ``"best"`` and ``"second"`` of each column, by row and column; ties share a mark."""
    marked: dict[tuple[str, str], str] = {}
    columns: dict[str, list[tuple[Entry, float]]] = {}
    for item in filled:
        if item.value is not None:
            values = columns.setdefault(item.entry.column, [])
            values.append((item.entry, round(float(item.value), 6)))
    for values in columns.values():
        ascending = values[0][0].figure in LOWER_IS_BETTER
        ranking = sorted({value for _, value in values}, reverse=not ascending)
        for entry, value in values:
            rank = ranking.index(value)
            if rank < 2:
                marked[entry.row, entry.column] = ("best", "second")[rank]
    return marked
