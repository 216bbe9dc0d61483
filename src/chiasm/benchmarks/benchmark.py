"""Run a benchmark: find the cells, run those that are missing, write the table as it grows."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import chiasm.detection.models.named  # noqa: F401  (importing registers the methods)
from chiasm import api as verbs
from chiasm.benchmarks.paired import compared, pooled_figure
from chiasm.benchmarks.pool import run_cells, run_on_ray
from chiasm.benchmarks.render import write
from chiasm.benchmarks.speed import interleaved
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import Filled, Table, fill
from chiasm.benchmarks.trial import Trial, fingerprint_of
from chiasm.errors import ConfigurationError, DataError


def run_table(
    table: Table,
    *,
    out: Path,
    command: str,
    jobs: int = 1,
    ray: str | None = None,
    minutes: float | None = None,
    in_turn: bool = False,
    said: Callable[[str], None] = print,
) -> list[Filled]:
    """Fill a table and write it to ``out``; what is stored there is not run again.

    A stored result that other code made is run again, and said so. The table is written after
    every run, so that a benchmark that is killed leaves what it had.

    Args:
        table: which cells there are.
        out: folder of the table; runs lie in its ``cells``.
        command: that repeats it.
        jobs: cells at a time.
        ray: address of a Ray cluster, ``"local"`` begins one; None runs here.
        minutes: after which no further cell is begun.
        in_turn: measure the speed of all models in turn at the end.
        said: is told what happens.

    Raises:
        ConfigurationError: the table has no run of what was asked for, or a setting is wrong; both
            before anything is run.
        DataError: not one run came to an end; the table is written all the same.
    """
    _check_settings(table)
    store = ResultStore(out / "cells")
    facts = {"command": command, "commit": _commit(), "machine": machine()}
    results: dict[str, Result] = {}
    missing: list[Trial] = []
    for cell in table.cells:
        known = store.read(cell)
        if known is None or known.status != "done":
            missing.append(cell)
        elif known.code != fingerprint_of(cell):
            said(f"{cell.data.name}: {cell.method} was made by other code; it is run again.")
            missing.append(cell)
        else:
            results[cell.key] = known
    said(f"{len(results)} of {len(table.cells)} runs are there, {len(missing)} are to be made.")
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    done = (
        run_cells(missing, store, jobs=jobs, deadline=deadline, said=said)
        if ray is None
        else run_on_ray(missing, store, address=ray, said=said)
    )
    for cell, result in done:
        results[cell.key] = result
        if result.status != "done":
            said(f"{cell.data.name}: {cell.method} {result.status}: {result.error}")
        _write(table, results, store, out, facts)
    if in_turn:
        _measure_in_turn(table, store, results)
    filled, page = _write(table, results, store, out, facts)
    said(f"The table is {page}.")
    failed = [result for result in results.values() if result.status != "done"]
    if failed and len(failed) == len(results):
        raise DataError(f"None of the {len(failed)} runs came to an end: {failed[0].error}")
    return filled


def _check_settings(table: Table) -> None:
    """Refuse what every run would end with, or that there is none."""
    if not table.cells:
        raise ConfigurationError(
            "This table has no run of the data and methods that were asked for; its methods are "
            f"rows of '{table.title}'."
        )
    seen: set[str] = set()
    for cell in table.cells:
        own = repr(sorted((k, repr(v)) for k, v in cell.settings.items() if k != "seed"))
        if own not in seen:
            verbs.make_config(data=cell.data, out=Path(), **cell.settings)
        seen.add(own)


def _write(
    table: Table,
    results: dict[str, Result],
    store: ResultStore,
    out: Path,
    facts: dict[str, Any],
) -> tuple[list[Filled], Path]:
    """Fill and write the table as far as it is known."""
    filled = fill(table, results, lambda entry: pooled_figure(entry, store))
    pairs: list[dict[str, Any]] = []
    words: list[str] = []
    for comparison in table.compared:
        # Rows that other code made are no part of what is said.
        own = {r: c for r, c in comparison.rows.items() if all(x.key in results for x in c)}
        said, found = compared(replace(comparison, rows=own), store)
        words += said
        pairs += [{"of": comparison.title} | asdict(one) for one in found]
        if missing := [label for label in comparison.rows if label not in own]:
            words.append(f"{comparison.title}: not compared, as not run: {'; '.join(missing)}.")
    return filled, write(replace(table, verdict=tuple(words)), filled, out, facts, pairs)


def _measure_in_turn(table: Table, store: ResultStore, results: dict[str, Result]) -> None:
    done = {c.key: c for c in table.cells if c.key in results and results[c.key].status == "done"}
    found = interleaved({k: (store.run_folder(c), c.data, c.wing) for k, c in done.items()})
    for key, speed in found.items():
        metrics: dict[str, Any] = results[key].metrics | {"speed": speed}
        results[key] = replace(results[key], metrics=metrics)


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    here = Path(__file__).parent
    found = subprocess.run(
        [git, "-C", here, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def machine() -> str:
    """Processor and cores, in words."""
    import os

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "unknown processor"
    return f"{name}, {os.cpu_count()} cores"
