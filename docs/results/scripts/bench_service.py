"""Compare the service with its runtime: throughput, latency, memory, a restart.

Run on a quiet machine, with a model that 'chiasm export' wrote:
  python docs/results/scripts/bench_service.py exported/gland \
      --parts shared/data/mvtec_3d/cable_gland/test/good --minutes 10

runtime     parts a second by the runtime alone: from arrays, and from the bytes of the files, which
            a service must decode too
saturation  four clients, each with its next request as soon as its last is answered
unloaded    one client, one request at a time
half        requests at random moments, half as many a second as at saturation until then
            (these four in turns, for the pace of a machine drifts; the moments differ by turn)
soak        saturation for minutes; resident memory at its first tenth and its last
restart     SIGTERM under load, then a new process on the same listening socket

Clients and service share the cores, as at a station where both run; only 127.0.0.1 is spoken to.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from record import machine
from service_load import Answers, Load, body

from chiasm.detection.readers.plain_folder import PlainFolder
from chiasm.files.images import read_rgb, read_xyz

CLIENTS = 4
TURNS = 4


class RuntimeAlone:
    """The runtime in its own process, which answers requests."""

    def __init__(self, model: Path, parts: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(model), "--parts", str(parts),
             "--threads", str(threads), "--runtime-alone"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip

    def rates(self, seconds: float) -> dict[str, float]:
        """Parts a second from arrays and from files, several in flight, each for some seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def answer_rates(model: Path, parts: Path, threads: int) -> None:
    """Inside that process: a line of JSON for each line of seconds."""
    from chiasm.runtime import load

    runtime = load(model, threads=threads)
    runtime.warm_up(streaming=True)
    files = _files(parts)
    arrays = [(read_rgb(one["rgb"]), read_xyz(one["xyz"])) for one in files]

    def from_arrays(number: int) -> None:
        runtime.submit(*arrays[number % len(arrays)]).result()

    def from_files(number: int) -> None:
        one = files[number % len(files)]
        runtime.submit(read_rgb(one["rgb"]), read_xyz(one["xyz"])).result()

    for line in sys.stdin:
        seconds = float(line)
        found = {"arrays": _rate(from_arrays, seconds), "files": _rate(from_files, seconds)}
        print(json.dumps(found), flush=True)
    runtime.close()


def _rate(predict: Callable[[int], None], seconds: float) -> float:
    for number in range(CLIENTS):
        predict(number)
    numbers = iter(range(10**9))
    done = 0
    lock = threading.Lock()
    start = time.perf_counter()

    def worker() -> None:
        nonlocal done
        while time.perf_counter() - start < seconds:
            predict(next(numbers))
            with lock:
                done += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(worker) for _ in range(CLIENTS)]:
            future.result()
    return done / (time.perf_counter() - start)


class Service:
    """``chiasm serve`` on a socket that this process holds open, as systemd would."""

    def __init__(self, model: Path, threads: int, log: Path) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listening.getsockname()[1])
        self.log = log
        self._command = [
            sys.executable, "-c", "from chiasm.cli.main import main; main()", "serve",
            f"model={model}", "--log", str(log), "--threads", str(threads),
        ]  # fmt: skip
        self.process = self._start()

    def restart(self) -> float:
        """End it in order and start another; seconds until the old one had ended."""
        start = time.perf_counter()
        self.end()
        took = time.perf_counter() - start
        self.process = self._start()
        return took

    def end(self) -> None:
        """SIGTERM, then wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def close(self) -> None:
        """End it and give the address back."""
        self.end()
        self._listening.close()

    def resident_mb(self) -> float:
        """Resident memory of the service's process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(x for x in status.splitlines() if x.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def logged(self) -> int:
        """Verdicts in the log."""
        with closing(sqlite3.connect(self.log)) as log:
            return int(
                log.execute("SELECT count(*) FROM verdicts WHERE decision != 'error'").fetchone()[0]
            )

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._listening.fileno()
        words = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{number}'
        return subprocess.Popen(
            ["bash", "-c", words, "-", *self._command],
            pass_fds=[number],
            env=_environment(),
            stderr=subprocess.DEVNULL,
        )


def soak(service: Service, load: Load, minutes: float) -> dict[str, Any]:
    """Saturation for minutes, and what it does to memory."""
    memory: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(2):
            memory.append(service.resident_mb())

    looking = threading.Thread(target=look)
    looking.start()
    answers = load.closed(clients=CLIENTS, seconds=60 * minutes)
    ended.set()
    looking.join()
    tenth = max(1, len(memory) // 10)
    first, last = float(np.median(memory[:tenth])), float(np.median(memory[-tenth:]))
    return {
        "minutes": minutes,
        "requests": len(answers.seconds),
        "requests_per_second": answers.rate(),
        "lost": answers.lost,
        "first_mb": first,
        "last_mb": last,
        "peak_mb": max(memory),
        "growth": last / first - 1,
        "p99_ms": answers.percentile(99),
    }


def restart(service: Service, load: Load) -> dict[str, Any]:
    """A restart in the middle of load; connections are not kept, as a supervisor's socket is."""
    before = service.logged()
    found: list[Answers] = []
    loading = threading.Thread(
        target=lambda: found.append(load.closed(clients=CLIENTS, seconds=15, keep=False))
    )
    loading.start()
    time.sleep(4)
    took = service.restart()
    loading.join()
    answers = found[0]
    return {
        "requests": len(answers.seconds),
        "lost": answers.lost,
        "logged": service.logged() - before,
        "seconds_to_end": took,
        "longest_wait_s": max(answers.seconds),
    }


def in_turns(alone: RuntimeAlone, load: Load, seconds: float) -> dict[str, Any]:
    """The runtime, saturation, one client and half of saturation, several times."""
    rates: list[dict[str, float]] = []
    full, unloaded, half = Answers(), Answers(), Answers()
    by_turn = []
    for turn in range(TURNS):
        rates.append(alone.rates(seconds))
        one, single = (
            load.closed(clients=CLIENTS, seconds=seconds),
            load.closed(clients=1, seconds=seconds / 2),
        )
        full, unloaded = full + one, unloaded + single
        open_ = load.open(rate=full.rate() / 2, seconds=2 * seconds, seed=turn)
        half = half + open_
        by_turn.append(
            {
                "runtime": rates[-1],
                "saturation": one.rate(),
                "unloaded_p50_ms": single.percentile(50),
                "half_p99_ms": open_.percentile(99),
            }
        )
    runtime = {way: float(np.mean([one[way] for one in rates])) for way in rates[0]}
    return {
        "runtime": runtime,
        "saturation": {
            "requests_per_second": full.rate(),
            "share_of_runtime": full.rate() / runtime["files"],
            "share_of_runtime_from_arrays": full.rate() / runtime["arrays"],
            "p50_ms": full.percentile(50),
            "p99_ms": full.percentile(99),
            "lost": full.lost,
        },
        "unloaded": {"p50_ms": unloaded.percentile(50), "p99_ms": unloaded.percentile(99)},
        "half": {
            "requests_per_second": half.rate(),
            "p50_ms": half.percentile(50),
            "p99_ms": half.percentile(99),
            "p99_to_unloaded_p50": half.percentile(99) / unloaded.percentile(50),
            "lost": half.lost,
        },
        "turns": by_turn,
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    model, parts, threads = arguments.model, arguments.parts, arguments.threads
    bodies = [body(one) for one in _files(parts)]
    with tempfile.TemporaryDirectory() as place:
        service = Service(model, threads, Path(place) / "log.sqlite")
        alone = RuntimeAlone(model, parts, threads)
        try:
            load = Load(service.port, "model", bodies)
            alone.rates(2)  # caches fill, libraries load
            load.closed(clients=CLIENTS, seconds=5)
            turns = in_turns(alone, load, arguments.seconds)
            alone.close()
            soaked = soak(service, load, arguments.minutes)
            restarted = restart(service, load)
        finally:
            service.close()
            alone.close()
    return {
        "machine": machine(),
        "threads": threads,
        "clients": CLIENTS,
        "model": json.loads((model / "deployment.json").read_text())["method"],
        "bytes_of_a_request": int(np.mean([len(content) for content, _ in bodies])),
        "versions": {name: version(name) for name in ("fastapi", "uvicorn", "openvino")},
        **turns,
        "soak": soaked,
        "restart": restarted,
    }


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown, beside what was asked for."""
    full, half, kept, again = (found[k] for k in ("saturation", "half", "soak", "restart"))
    rows = [
        ("runtime alone, from arrays", f"{found['runtime']['arrays']:.1f} parts a second", ""),
        ("runtime alone, from files", f"{found['runtime']['files']:.1f} parts a second", ""),
        ("service at saturation", f"{full['requests_per_second']:.1f} parts a second", ""),
        ("share of the runtime from files", f"{full['share_of_runtime']:.2f}", "at least 0.90"),
        ("share of the runtime from arrays", f"{full['share_of_runtime_from_arrays']:.2f}", ""),
        ("unloaded p50", f"{found['unloaded']['p50_ms']:.0f} ms", ""),
        ("p99 at half saturation", f"{half['p99_ms']:.0f} ms", ""),
        ("p99 at half to unloaded p50", f"{half['p99_to_unloaded_p50']:.2f}", "at most 3"),
        (f"soak of {kept['minutes']:g} minutes", f"{kept['requests']} requests", ""),
        ("lost in it", str(sum(kept["lost"].values())), "0"),
        ("memory, first and last tenth", f"{kept['first_mb']:.0f}, {kept['last_mb']:.0f} MB", ""),
        ("growth", f"{100 * kept['growth']:.1f} %", "at most 5 %"),
        ("restart under load: requests", str(again["requests"]), ""),
        ("lost in it", str(sum(again["lost"].values())), "0"),
    ]
    lines = [f"# The service beside its runtime\n\n{found['machine']}, {found['threads']} threads; "
             f"clients share the cores. {found['model']}, "
             f"{found['bytes_of_a_request'] / 2**20:.1f} MB a request. Made by "
             "`docs/results/scripts/bench_service.py`.\n",
             "| | found | asked |", "| --- | --- | --- |"]  # fmt: skip
    return "\n".join([*lines, *(f"| {a} | {b} | {c} |" for a, b, c in rows)]) + "\n"


def _files(parts: Path) -> list[dict[str, Path]]:
    return [dict(ref.files) for ref in PlainFolder(parts).refs][:20]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--parts", type=Path, required=True, help="folder with rgb/ and xyz/")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("docs/results/service.json"))
    parser.add_argument("--runtime-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.runtime_alone:
        answer_rates(arguments.model, arguments.parts, arguments.threads)
        return
    found = measure(arguments)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
