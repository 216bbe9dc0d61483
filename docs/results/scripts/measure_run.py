"""Measure a default ``chiasm train``: wall and processor seconds, and memory, of each stage.

python docs/results/scripts/measure_run.py FOLDER --data shared/data/mvtec_3d/cable_gland
python docs/results/scripts/measure_run.py FOLDER --parts 1000          # made scenes
python docs/results/scripts/measure_run.py FOLDER --render

Each run is made in a process of its own, with an empty cache. Settings follow the folder as
``name=value``; without any the run is that of the README.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from record import machine

RESULTS = Path(__file__).resolve().parents[1]
PRODUCT = "flange"
FIGURES = "figures.json"
BETWEEN = "between stages"


class StageLog:
    """Wall and processor seconds since the last mark, summed by stage, and the peak memory.

    Stages are those that show progress; ``BETWEEN`` is what the user sees nothing of.
    """

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self.longest_silence = 0.0
        self._wall, self._processor = time.monotonic(), time.process_time()

    def mark(self, stage: str) -> None:
        """Attribute the time since the last mark to a stage."""
        wall, processor = time.monotonic(), time.process_time()
        row = self.stages.setdefault(stage, {"seconds": 0.0, "processor_seconds": 0.0})
        row["seconds"] = round(row["seconds"] + wall - self._wall, 2)
        row["processor_seconds"] = round(row["processor_seconds"] + processor - self._processor, 2)
        row["peak_memory_mb"] = peak_memory()
        if stage == BETWEEN:
            self.longest_silence = max(self.longest_silence, round(wall - self._wall, 2))
        self._wall, self._processor = wall, processor

    def watch(self) -> None:
        """Mark the start and the end of every stage that shows progress."""
        from chiasm.training.progress import Progress

        start, close = Progress.__init__, Progress.close

        def started(progress: Progress, *arguments: Any, **more: Any) -> None:
            self.mark(BETWEEN)
            start(progress, *arguments, **more)

        def closed(progress: Progress, **more: Any) -> None:
            close(progress, **more)
            # Finalists are numbered; they are one stage.
            self.mark(re.sub(r"^Final \d+$", "Final round", progress.stage))

        Progress.__init__ = started  # type: ignore[method-assign]
        Progress.close = closed  # type: ignore[method-assign]


def peak_memory() -> float:
    """Return the peak resident memory of this process in MB of 2^20 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def train_once(data: Path, out: Path, settings: list[str], figures: Path) -> None:
    """Train in this process, and write the figures."""
    log = StageLog()
    from chiasm.detection.config import DetectionConfig
    from chiasm.detection.train import train

    log.watch()
    log.mark("imports")
    result = train(DetectionConfig.make(overrides=settings, data=data, out=out))
    log.mark(BETWEEN)
    learning = json.loads((out / "learning.json").read_text())
    measured = {
        "minutes": round(result.minutes, 2),
        "validation_ap": None if math.isnan(ap := result.validation_ap) else round(ap, 4),
        "peak_memory_mb": peak_memory(),
        "longest_silence_seconds": log.longest_silence,
        "macs": learning["macs"],
        "stages": log.stages,
    }
    figures.write_text(json.dumps(measured, indent=1) + "\n")


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Run the training in a fresh process, and add its figures to ``FOLDER/figures.json``."""
    if given.data is None:
        name = f"scenes_{given.parts}"
        data = folder / name / PRODUCT
        if not data.exists():
            counts = ("--train", str(given.parts), "--validation", "50")
            chiasm("data", "make", str(data.parent), "--products", PRODUCT, *counts)
    else:
        name, data = given.data.name, given.data
    shots = [] if given.data is None or given.parts is None else [f"shots={given.parts}"]
    out, cache = folder / f"run_{name}_{given.label}", folder / "cache"
    for old in (out, cache):
        shutil.rmtree(old, ignore_errors=True)
    measured = folder / f"{name}_{given.label}.json"
    settings = [*shots, *given.settings]
    options = ("--data", str(data), "--child", str(measured))
    subprocess.run(
        [sys.executable, __file__, str(out), *settings, *options],
        env=os.environ | {"CHIASM_CACHE": str(cache)},
        check=True,
    )
    entry = {
        "data": name,
        "label": given.label,
        "command": " ".join(["chiasm train --data", str(data), "--out", "RUN", *settings]),
        "parts": given.parts,
        "settings": settings,
        "commit": given.commit,
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        **json.loads(measured.read_text()),
    }
    path = folder / FIGURES
    figures = json.loads(path.read_text()) if path.exists() else []
    figures = [f for f in figures if (f["data"], f["label"]) != (name, given.label)]
    path.write_text(json.dumps([*figures, entry], indent=1) + "\n")
    print(json.dumps(entry, indent=1))


def chiasm(*arguments: str) -> None:
    """Run a command of the package."""
    code = "from chiasm.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def render(folder: Path) -> None:
    """Write ``default_run.json`` and ``default_run.md``."""
    figures: list[dict[str, Any]] = json.loads((folder / FIGURES).read_text())
    (RESULTS / "default_run.json").write_text(json.dumps(figures, indent=1) + "\n")
    lines = ["# The time and memory of a default run", ""]
    for entry in figures:
        silent, ap = entry["longest_silence_seconds"], entry["validation_ap"]
        lines += [
            f"## {entry['data']}, {entry['label']}",
            "",
            f"{entry['minutes']:.1f} minutes, peak {entry['peak_memory_mb']:.0f} MB, validation AP "
            f"{'–' if ap is None else f'{ap:.3f}'}; longest time without progress {silent:.1f} s.",
            "",
            "| Stage | Wall seconds | Processor seconds | Peak memory by its end, MB |",
            "| --- | --- | --- | --- |",
            *(
                f"| {stage} | {row['seconds']:.1f} | {row['processor_seconds']:.1f} "
                f"| {row['peak_memory_mb']:.0f} |"
                for stage, row in entry["stages"].items()
            ),
            "",
            f"`{entry['command']}`, commit {entry['commit']}, {entry['machine']}, load "
            f"{entry['load']} at the end.",
            "",
        ]
    lines.append("Script: `docs/results/scripts/measure_run.py`.")
    (RESULTS / "default_run.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", nargs="*", help="name=value, e.g. seed=1")
    parser.add_argument("--data", type=Path, help="a folder of parts; None makes scenes")
    parser.add_argument("--parts", type=int, help="normal parts; all of a folder by default")
    parser.add_argument("--label", default="default")
    parser.add_argument("--commit", default="", help="of the code that is imported")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_intermixed_args()
    if arguments.child is not None:
        train_once(arguments.data, arguments.folder, arguments.settings, arguments.child)
    elif arguments.render:
        render(arguments.folder)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        if arguments.data is None and arguments.parts is None:
            parser.error("give --data, or --parts for made scenes")
        measure(arguments.folder, arguments)
