"""Run a benchmark: list the trials, run the missing ones, write the table after each."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from chiasm import api
from chiasm.benchmarks.paired import compared, pooled_figure
from chiasm.benchmarks.pool import run_local, run_on_ray
from chiasm.benchmarks.render import write
from chiasm.benchmarks.speed import interleaved
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import Filled, Table, fill
from chiasm.benchmarks.trial import Trial, fingerprint_of
from chiasm.errors import ConfigurationError, DataError

# On disk the folder keeps its earlier name, so that stored trials are found.
TRIALS = "cells"


def run_table(
    table: Table,
    *,
    out: Path,
    command: str,
    jobs: int = 1,
    ray: str | None = None,
    minutes: float | None = None,
    in_turn: bool = False,
    report_progress: Callable[[str], None] = print,
) -> list[Filled]:
    """Fill a table and write it to ``out``; stored trials are not run again.

    A trial whose result another version of the code made is run again, and reported. The table is
    written after every trial, so that a killed benchmark leaves a partial table.

    Args:
        table: its entries name the trials.
        out: folder of the table and of the trials.
        command: repeats the benchmark; written below the table.
        jobs: number of trials at a time.
        ray: address of a Ray cluster, ``"local"`` starts one; None runs on this machine.
        minutes: after which no further trial is started.
        in_turn: measure the speed of all models in turn at the end, for a fair comparison.
        report_progress: called with a line for people.

    Raises:
        ConfigurationError: the table has no trial of these data and methods, or a setting is wrong;
            raised before any trial is run.
        DataError: every trial failed; the table is written nevertheless.
    """
    _check_settings(table)
    store = ResultStore(out / TRIALS)
    facts = {"command": command, "commit": _commit(), "machine": machine()}
    results: dict[str, Result] = {}
    missing: list[Trial] = []
    for trial in table.trials:
        stored = store.read(trial)
        if stored is None or stored.status != "done":
            missing.append(trial)
        elif stored.code != fingerprint_of(trial):
            report_progress(f"{trial.data.name}: the code of {trial.method} changed; run it again.")
            missing.append(trial)
        else:
            results[trial.key] = stored
    report_progress(
        f"{len(results)} of {len(table.trials)} trials are stored, {len(missing)} to run."
    )
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    finished = (
        run_local(missing, store, jobs=jobs, deadline=deadline, report_progress=report_progress)
        if ray is None
        else run_on_ray(missing, store, address=ray, report_progress=report_progress)
    )
    for trial, result in finished:
        results[trial.key] = result
        if result.status != "done":
            report_progress(f"{trial.data.name}: {trial.method} {result.status}: {result.error}")
        _write(table, results, store, out, facts)
    if in_turn:
        _measure_in_turn(table, store, results)
    filled, page = _write(table, results, store, out, facts, finished=True)
    report_progress(f"The table is {page}.")
    failed = [result for result in results.values() if result.status != "done"]
    if failed and len(failed) == len(results):
        raise DataError(f"All {len(failed)} trials failed: {failed[0].error}")
    return filled


def _check_settings(table: Table) -> None:
    """Refuse an empty table, and settings that would make every trial fail."""
    if not table.trials:
        raise ConfigurationError(
            f"The table '{table.title}' has no trial of these data and methods; choose methods "
            "that are rows of it, and folders of data that are named as its columns (bagel, ...); "
            "'chiasm bench rivals' takes data of any name."
        )
    checked: set[str] = set()
    for trial in table.trials:
        settings = repr(sorted((k, repr(v)) for k, v in trial.settings.items() if k != "seed"))
        if settings not in checked:
            api.make_config(data=trial.data, out=Path(), **trial.settings)
        checked.add(settings)


def _write(
    table: Table,
    results: dict[str, Result],
    store: ResultStore,
    out: Path,
    facts: dict[str, Any],
    *,
    finished: bool = False,
) -> tuple[list[Filled], Path]:
    """Fill the table with the finished trials and write it; a picture of its own comes last."""
    filled = fill(table, results, lambda entry: pooled_figure(entry, store))
    pairs: list[dict[str, Any]] = []
    sentences: list[str] = []
    for comparison in table.compared:
        # Results of another version of the code are not compared.
        rows = {
            label: trials
            for label, trials in comparison.rows.items()
            if all(trial.key in results for trial in trials)
        }
        verdict, differences = compared(replace(comparison, rows=rows), store)
        sentences += verdict
        pairs += [{"of": comparison.title} | asdict(difference) for difference in differences]
        if missing := [label for label in comparison.rows if label not in rows]:
            sentences.append(f"{comparison.title}: not compared, as not run: {'; '.join(missing)}.")
    drawn = table.draw(table, filled, store) if table.draw is not None and finished else None
    table = replace(table, verdict=tuple(sentences))
    return filled, write(table, filled, out, facts, pairs, drawn)


def _measure_in_turn(table: Table, store: ResultStore, results: dict[str, Result]) -> None:
    done = {t.key: t for t in table.trials if t.key in results and results[t.key].status == "done"}
    speeds = interleaved({k: (store.run_folder(t), t.data, t.wing) for k, t in done.items()})
    for key, speed in speeds.items():
        metrics: dict[str, Any] = results[key].metrics | {"speed": speed}
        results[key] = replace(results[key], metrics=metrics)


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    answer = subprocess.run(
        [git, "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def machine() -> str:
    """Return processor and cores in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "unknown processor"
    return f"{name}, {os.cpu_count()} cores"
