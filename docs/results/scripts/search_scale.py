"""A search in two processes against one: seconds of each stage, alternately.

python docs/results/scripts/search_scale.py --data FOLDER --out FOLDER --pairs 1 image_size=128 ...

One process is bound to one core and has one thread. Two have a core each, and the process that
gathers them has both where they wait. Both searches have the same settings and an empty folder.
Settings follow as ``name=value``. The table is written to ``docs/results/search_scale.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from record import machine

RESULTS = Path(__file__).resolve().parents[1]
# The stage that begins with a line of output that starts so.
STAGES = {
    "Fitting the memory": "memory of normals",
    "Making synthetic anomalies (final)": "stored features",
    "Measuring what": "costs of pieces (one process on purpose)",
    "Training the weights of all": "shared weights (one training)",
    "Searching the fusion": "relaxed network (one training)",
    "Evolution of": "evolution",
    "Final round": "final round",
    "late cell": "end",
}
ALONE = ("costs of pieces (one process on purpose)",)


def search(out: Path, data: Path, settings: list[str], workers: int) -> dict[str, float]:
    """Search once; return the seconds of each stage and of all."""
    shutil.rmtree(out, ignore_errors=True)
    words = [sys.executable, "-u", "-c", "from chiasm.cli.main import main; main()", "search"]
    words += ["--data", str(data), "--out", str(out), "--workers", str(workers), *settings]
    environment = os.environ | {"OMP_NUM_THREADS": str(workers), "COLUMNS": "400"}
    cores = set(range(workers))
    seconds: dict[str, float] = {}
    stage, started = "start and reading", time.monotonic()
    since = started
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            following = next((s for words, s in STAGES.items() if line.startswith(words)), stage)
            if following != stage:
                now = time.monotonic()
                seconds[stage] = seconds.get(stage, 0.0) + now - since
                stage, since = following, now
    if process.returncode:
        raise SystemExit(f"The search ended with {process.returncode}.")
    return seconds | {"all": time.monotonic() - started}


def main() -> None:
    """Search alternately with one and with two processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--commit", default="")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for pair in range(given.pairs):
        for workers in (2, 1) if pair % 2 else (1, 2):
            runs[workers].append(search(given.out, given.data, given.settings, workers))
            print(workers, {k: round(v, 1) for k, v in runs[workers][-1].items()}, flush=True)
    rows: dict[str, Any] = {}
    for name in runs[1][0]:
        one, two = (statistics.median(run[name] for run in runs[w]) for w in (1, 2))
        rows[name] = {"one": round(one, 1), "two": round(two, 1), "times": round(one / two, 2)}
    alone = [sum(rows[name][column] for name in ALONE if name in rows) for column in ("one", "two")]
    one, two = rows["all"]["one"] - alone[0], rows["all"]["two"] - alone[1]
    rows["all without the costs of pieces"] = {
        "one": round(one, 1),
        "two": round(two, 1),
        "times": round(one / two, 2),
    }
    content = {
        "command": " ".join(
            ["python docs/results/scripts/search_scale.py --data shared/data/...", *given.settings]
        ),
        "data": given.data.name,
        "commit": given.commit,
        "machine": machine(),
        "pairs": given.pairs,
        "seconds": rows,
    }
    (RESULTS / "search_scale.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
