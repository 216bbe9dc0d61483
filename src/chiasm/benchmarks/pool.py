"""Cells run here: side by side in processes of their own, or on a Ray cluster."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from chiasm.benchmarks.diagnosis_facts import read_classifier_facts
from chiasm.benchmarks.run_trial import EXIT_OUT_OF_MEMORY, PHASES
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.trial import Trial, fingerprint_of
from chiasm.errors import ConfigurationError

Done = tuple[Trial, Result]


def run_cells(
    cells: Sequence[Trial],
    store: ResultStore,
    *,
    jobs: int = 1,
    deadline: float | None = None,
    said: Callable[[str], None] = lambda words: None,
) -> Iterator[Done]:
    """Run cells side by side on this machine; yields each as it ends.

    Args:
        cells: to run.
        store: where results go.
        jobs: cells at a time; the processor's cores are shared among them (see ``threads_each``).
        deadline: of ``time.monotonic``, after which no further cell is begun.
        said: is told what begins.
    """
    threads = threads_each(jobs)
    waiting = list(cells)
    running: dict[Future[Result], Trial] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        while waiting or running:
            while waiting and len(running) < jobs:
                if deadline is not None and time.monotonic() > deadline:
                    waiting.clear()
                    break
                cell = waiting.pop(0)
                said(f"{cell.data.name}: {cell.method} ...")
                running[pool.submit(run_one, cell, store, threads, fingerprint_of(cell))] = cell
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                yield running.pop(one), one.result()


def run_on_ray(
    cells: Sequence[Trial],
    store: ResultStore,
    *,
    address: str,
    said: Callable[[str], None] = lambda words: None,
) -> Iterator[Done]:
    """Run cells as tasks of a Ray cluster whose machines share the store's folder.

    Args:
        cells: to run.
        store: where results go.
        address: of the cluster; ``"local"`` begins one on this machine.
        said: is told what begins.

    A task whose worker is lost is begun once more; lost again, its cell is a result that says so.

    Raises:
        ConfigurationError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError("--ray needs Ray: pip install 'chiasm[cluster]'.") from error
    # Ray's workers give way to everything else unless told; a run is to take its time, not more.
    os.environ.setdefault("RAY_worker_niceness", "0")
    begun = not ray.is_initialized()
    if begun and address == "local":
        ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    elif begun:
        ray.init(address=address, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=1, max_retries=1)(run_one)
        # A worker stands in a folder of its own.
        store = ResultStore(store.folder.absolute())
        running = {}
        for cell in cells:
            said(f"{cell.data.name}: {cell.method} ...")
            absolute = replace(cell, data=cell.data.absolute())
            # The code is named here: a worker need not import what only its subprocesses use.
            running[task.remote(absolute, store, 1, fingerprint_of(cell))] = cell
        while running:
            ended, _ = ray.wait(list(running), num_returns=1)
            for one in ended:
                cell = running.pop(one)
                try:
                    yield cell, ray.get(one)
                except ray.exceptions.RayError as error:
                    yield cell, _lost(error, cell, store)
    finally:
        if begun:
            ray.shutdown()


def _lost(error: Exception, cell: Trial, store: ResultStore) -> Result:
    """The result of a cell whose task ended without one."""
    short = "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = (lines[-1] if lines else type(error).__name__)[:300]
    result = Result("out of memory" if short else "crashed", {}, words, fingerprint_of(cell))
    store.write(cell, result)
    return result


def threads_each(jobs: int) -> int:
    """Processor threads of each of so many runs at a time.

    Never more than ``OMP_NUM_THREADS`` says where it is set: whoever sets it has other work on
    these cores, and threads that wait for each other on busy cores take five times as long.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = os.cpu_count() or 1
    most = min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores
    return max(1, min(cores // jobs, most))


def run_one(cell: Trial, store: ResultStore, threads: int, code: str) -> Result:
    """Learn, judge and measure, each in a fresh process; keeps the result and returns it.

    Args:
        cell: to run.
        store: where the result goes.
        threads: of each process.
        code: fingerprint of the code that runs it.
    """
    store.prepare(cell, code)
    run = store.run_folder(cell)
    description = store.folder / cell.key / "cell.json"
    description.write_text(
        json.dumps(
            cell.described()
            | {
                "folder": str(cell.data.resolve()),
                "report": str(store.report_folder(cell)),
                "code": code,
            },
            indent=1,
        )
        + "\n"
    )
    for phase in PHASES:
        failure = _failure(phase, description, run, threads)
        if failure is not None:
            result = Result(failure[0], {}, failure[1], code)  # type: ignore[arg-type]
            store.write(cell, result)
            return result
    metrics = json.loads((store.report_folder(cell) / "metrics.json").read_text())
    metrics["speed"] = json.loads((run / "speed.json").read_text())
    if cell.wing == "classifier":
        metrics |= read_classifier_facts(store.report_folder(cell))
    contract = json.loads((run / "model" / "contract.json").read_text())
    result = Result("done", metrics, "", code, contract.get("backbone_weights") or "")
    store.write(cell, result)
    return result


def _failure(phase: str, description: Path, run: Path, threads: int) -> tuple[str, str] | None:
    """Status and error of a phase that did not end well; None of one that did."""
    log = description.parent / f"{phase}.log"
    with log.open("w") as stream:
        ended = subprocess.run(
            [sys.executable, "-m", "chiasm.benchmarks.run_trial", phase, description, run],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            preexec_fn=_die_with_parent,
            check=False,
        )
    if ended.returncode == 0:
        return None
    if ended.returncode in (EXIT_OUT_OF_MEMORY, -signal.SIGKILL):
        return "out of memory", f"It needed more memory than there was while it was to {phase}."
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "crashed", (lines[-1] if lines else f"exit status {ended.returncode}")[:300]


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that began it is killed."""
    try:
        libc: Any = ctypes.CDLL("libc.so.6", use_errno=True)
        libc.prctl(1, signal.SIGTERM)
    except OSError:
        pass
