"""How fast and how large a trained model is: one part after the other, from arrays to verdict."""

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

HELD = 8  # samples in memory that a station goes through in turn


class Station:
    """A loaded model with a few decoded samples: what a station on a line does all day.

    Args:
        run: folder of a run.
        data: folder whose test samples are judged.
        wing: ``"detector"`` or ``"classifier"``.
    """

    def __init__(self, run: Path, data: Path, wing: str) -> None:
        from chiasm import api as verbs

        model: Any = verbs.load(run)
        self.run = run
        self._turn = 0
        self._samples: list[Any]
        if wing == "detector":
            from chiasm.detection.readers.opening import open_source

            source = open_source(data)
            refs = [ref for ref in source.refs if ref.split in ("test", "")][:HELD]
            self._samples = [source.load(ref) for ref in refs]
            self._judge = model.predict
        else:
            from chiasm.diagnosis.readers.opening import open_store

            store = open_store(data)
            self._samples = [store.load(ref) for ref in list(store.refs)[:HELD]]
            self._judge = model.predict

    def warm_up(self, times: int = 3) -> None:
        """Judge a few that are not timed."""
        for _ in range(times):
            self.once()

    def once(self) -> float:
        """Seconds for the next sample."""
        sample = self._samples[self._turn % len(self._samples)]
        self._turn += 1
        start = time.perf_counter()
        self._judge(sample)
        return time.perf_counter() - start

    def summary(self, seconds: Sequence[float]) -> dict[str, float]:
        """Frames a second at the median, latencies, peak resident memory and size on disk."""
        middle, high = np.percentile(seconds, (50, 95))
        files = [p for p in (self.run / "model").rglob("*") if p.is_file()]
        return {
            "frames_per_second": round(1 / float(middle), 3),
            "latency_p50_s": round(float(middle), 5),
            "latency_p95_s": round(float(high), 5),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "disk_mb": round(sum(p.stat().st_size for p in files) / 1e6, 2),
        }


def interleaved(
    runs: Mapping[str, tuple[Path, Path, str]], *, rounds: int = 30, threads: int = 1
) -> dict[str, dict[str, float]]:
    """Measure several models in turn, each in a process of its own, on the same machine.

    Whatever else the machine does meanwhile befalls all of them alike.

    Args:
        runs: name to the run's folder, the data's folder and the wing.
        rounds: samples of each.
        threads: of each process.

    Returns:
        Name to what ``Station.summary`` says.
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
    found: dict[str, dict[str, float]] = {}
    try:
        for _ in range(rounds):
            for worker in workers.values():
                _asked(worker, "once")
        for name, worker in workers.items():
            answer = _asked(worker, "summary")
            if answer:
                found[name] = json.loads(answer)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return found


def _asked(worker: subprocess.Popen[str], question: str) -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
        return worker.stdout.readline()
    except BrokenPipeError:
        return ""  # it has ended; the others go on


def _serve() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        station = Station(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
        station.warm_up()
    seconds: list[float] = []
    for line in sys.stdin:
        if line.strip() == "once":
            seconds.append(station.once())
            print(seconds[-1], flush=True)
        else:
            print(json.dumps(station.summary(seconds)), flush=True)


if __name__ == "__main__":
    _serve()
