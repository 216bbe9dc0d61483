"""Run trials in subprocesses of this machine, or on a Ray cluster."""

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
from chiasm.benchmarks.store import Result, ResultStore, Status
from chiasm.benchmarks.trial import Trial, fingerprint_of
from chiasm.runs.ray_cluster import ray_cluster
from chiasm.runs.workers import threads_each

Finished = tuple[Trial, Result]
Report = Callable[[str], None]


def run_local(
    trials: Sequence[Trial],
    store: ResultStore,
    *,
    jobs: int = 1,
    deadline: float | None = None,
    report_progress: Report = lambda line: None,
) -> Iterator[Finished]:
    """Run trials in parallel on this machine; yield each when it ends.

    Args:
        trials: the trials to run.
        store: receives the results.
        jobs: number of trials at a time, which share the cores (see ``threads_each``).
        deadline: time of ``time.monotonic`` after which no further trial is started.
        report_progress: called with a line for people.
    """
    threads = threads_each(jobs)
    pending = list(trials)
    running: dict[Future[Result], Trial] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        while pending or running:
            while pending and len(running) < jobs:
                if deadline is not None and time.monotonic() > deadline:
                    pending.clear()
                    break
                trial = pending.pop(0)
                report_progress(f"{trial.data.name}: {trial.method} ...")
                running[pool.submit(run_phases, trial, store, threads, fingerprint_of(trial))] = (
                    trial
                )
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield running.pop(future), future.result()


def run_on_ray(
    trials: Sequence[Trial],
    store: ResultStore,
    *,
    address: str,
    report_progress: Report = lambda line: None,
) -> Iterator[Finished]:
    """Run trials as tasks of a Ray cluster whose machines share the store's folder.

    A task whose worker is lost is started once more; lost again, its trial has failed. Where the
    cluster has GPUs, each trial that can use one has one for itself.

    Args:
        trials: the trials to run.
        store: receives the results.
        address: of the cluster; ``"local"`` starts one on this machine.
        report_progress: called with a line for people.

    Raises:
        ConfigurationError: Ray is not installed, or nothing answers at the address.
    """
    with ray_cluster(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=1)(run_phases)
        cards = ray.cluster_resources().get("GPU", 0)
        # A worker has another working directory.
        store = ResultStore(store.folder.absolute())
        running = {}
        for trial in trials:
            report_progress(f"{trial.data.name}: {trial.method} ...")
            absolute = replace(trial, data=trial.data.absolute())
            # The fingerprint is computed here: a worker need not import what its subprocesses use.
            asked = task.options(num_gpus=gpus_of_trial(trial) if cards else 0)
            running[asked.remote(absolute, store, 1, fingerprint_of(trial))] = trial
        while running:
            ended, _ = ray.wait(list(running), num_returns=1)
            for future in ended:
                trial = running.pop(future)
                try:
                    yield trial, ray.get(future)
                except ray.exceptions.RayError as error:
                    yield trial, _store_failure(error, trial, store)


def gpus_of_trial(trial: Trial) -> int:
    """Return the CUDA GPUs that a trial asks a cluster for: one, unless its settings say another.

    A trial that asks for none sees none.
    """
    return int(str(trial.settings.get("device", "auto")).startswith(("auto", "cuda")))


def _store_failure(error: Exception, trial: Trial, store: ResultStore) -> Result:
    """Store and return the result of a trial whose task was lost."""
    out_of_memory = "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = (lines[-1] if lines else type(error).__name__)[:300]
    status: Status = "out of memory" if out_of_memory else "crashed"
    result = Result(status, {}, message, fingerprint_of(trial))
    store.write(trial, result)
    return result


def run_phases(trial: Trial, store: ResultStore, threads: int, code: str) -> Result:
    """Train, evaluate and measure, each in a fresh process; store and return the result.

    Args:
        trial: the trial to run.
        store: receives the result.
        threads: of each process.
        code: fingerprint of the code.
    """
    store.prepare(trial, code)
    run = store.run_folder(trial)
    description = store.folder / trial.key / "trial.json"
    description.write_text(
        json.dumps(
            trial.description()
            | {
                "folder": str(trial.data.resolve()),
                "report": str(store.report_folder(trial)),
                "code": code,
            },
            indent=1,
        )
        + "\n"
    )
    for phase in PHASES:
        failure = _run_phase(phase, description, run, threads)
        if failure is not None:
            status, error = failure
            result = Result(status, {}, error, code)
            store.write(trial, result)
            return result
    metrics = json.loads((store.report_folder(trial) / "metrics.json").read_text())
    metrics["speed"] = json.loads((run / "speed.json").read_text())
    if trial.wing == "classifier":
        metrics |= read_classifier_facts(store.report_folder(trial))
    contract = json.loads((run / "model" / "contract.json").read_text())
    result = Result("done", metrics, "", code, contract.get("backbone_weights") or "")
    store.write(trial, result)
    return result


def _run_phase(phase: str, description: Path, run: Path, threads: int) -> tuple[Status, str] | None:
    """Run a phase in a subprocess; return status and error if it failed, else None."""
    log = description.parent / f"{phase}.log"
    with log.open("w") as stream:
        process = subprocess.run(
            [sys.executable, "-m", "chiasm.benchmarks.run_trial", phase, description, run],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            preexec_fn=_die_with_parent,
            check=False,
        )
    if process.returncode == 0:
        return None
    if process.returncode in (EXIT_OUT_OF_MEMORY, -signal.SIGKILL):
        return "out of memory", f"The phase {phase!r} needed more memory than was available."
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "crashed", (lines[-1] if lines else f"exit status {process.returncode}")[:300]


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent is killed."""
    try:
        libc: Any = ctypes.CDLL("libc.so.6", use_errno=True)
        libc.prctl(1, signal.SIGTERM)
    except OSError:
        pass
