"""Latency, memory and size of a trained model: one sample at a time, from arrays to prediction."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 8  # decoded samples that a station predicts in turn


class Station:
    """A loaded model with a few decoded samples, like an inspection station on a line.

    Args:
        run: folder of a run.
        data: folder whose test samples are predicted.
        wing: ``"detector"`` or ``"classifier"``.
        device: that predicts.
    """

    def __init__(self, run: Path, data: Path, wing: str, *, device: str = "auto") -> None:
        from chiasm import api

        model: Any = api.load(run, device=device)
        self.run = run
        self._predict = model.predict
        self._next = 0
        self._samples: list[Any]
        if wing == "detector":
            from chiasm.detection.readers.opening import open_as_trained

            source, _ = open_as_trained(data, model.acquisition)
            refs = [ref for ref in source.refs if ref.split in ("test", "")][:SAMPLES]
            self._samples = [source.load(ref) for ref in refs]
        else:
            from chiasm.diagnosis.readers.opening import open_store

            store = open_store(data)
            self._samples = [store.load(ref) for ref in list(store.refs)[:SAMPLES]]

    def warm_up(self, times: int = 3) -> None:
        """Predict a few samples untimed."""
        for _ in range(times):
            self.predict_next()

    def predict_next(self) -> float:
        """Predict the next sample; return the seconds."""
        sample = self._samples[self._next % len(self._samples)]
        self._next += 1
        start = time.perf_counter()
        self._predict(sample)
        return time.perf_counter() - start

    def summary(self, seconds: Sequence[float]) -> dict[str, float]:
        """Return frames per second at the median, latencies, peak resident memory and disk size."""
        median, high = np.percentile(seconds, (50, 95))
        files = [p for p in (self.run / "model").rglob("*") if p.is_file()]
        return {
            "frames_per_second": round(1 / float(median), 3),
            "latency_p50_s": round(float(median), 5),
            "latency_p95_s": round(float(high), 5),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "disk_mb": round(sum(p.stat().st_size for p in files) / 1e6, 2),
        }


def interleaved(
    runs: Mapping[str, tuple[Path, Path, str]], *, rounds: int = 30, threads: int = 1
) -> dict[str, dict[str, float]]:
    """Measure several models in turn, each in its own process, on the same machine.

    Other load on the machine then affects all models equally.

    Args:
        runs: name to the run's folder, the data's folder and the wing.
        rounds: number of samples of each model.
        threads: of each process.

    Returns:
        Name to ``Station.summary``.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", "chiasm.benchmarks.speed", *map(str, where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for name, where in runs.items()
    }
    summaries: dict[str, dict[str, float]] = {}
    try:
        for _ in range(rounds):
            for worker in workers.values():
                _answer(worker, "next")
        for name, worker in workers.items():
            answer = _answer(worker, "summary")
            if answer:
                summaries[name] = json.loads(answer)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return summaries


def _answer(worker: subprocess.Popen[str], question: str) -> str:
    """Return the worker's line of answer; "" if the worker has ended."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
        return worker.stdout.readline()
    except BrokenPipeError:
        return ""


def _serve() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        station = Station(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
        station.warm_up()
    seconds: list[float] = []
    for line in sys.stdin:
        if line.strip() == "next":
            seconds.append(station.predict_next())
            print(seconds[-1], flush=True)
        else:
            print(json.dumps(station.summary(seconds)), flush=True)


if __name__ == "__main__":
    _serve()
