"""Measure the peak resident memory of ``chiasm train`` at several numbers of made parts.

python docs/results/scripts/measure_memory.py FOLDER --label after --commit abc1234
python docs/results/scripts/measure_memory.py FOLDER --render
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from record import machine

RESULTS = Path(__file__).resolve().parents[1]
PARTS = (20, 60, 180)
PRODUCT = "flange"
TINY = (
    *("image_size=128", "rounds=2", "rotate=false", "memory_entries=1000", "train_epochs=1"),
    *("search.epochs=1", "search.finalists=2", "search.final_epochs=1", "search.final_steps=1"),
)


def chiasm(*arguments: str, cache: Path) -> tuple[float, float]:
    """Run a command in a fresh process; return its peak resident memory in MB and its seconds."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from chiasm.cli.main import main; main()", *arguments],
        env=os.environ | {"CHIASM_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"chiasm {' '.join(arguments)} failed.")
    return usage.ru_maxrss / 1024, time.monotonic() - started


def measure(folder: Path, label: str, numbers: list[int], commit: str) -> None:
    """Train on each number of parts, and add the figures to ``FOLDER/figures.json``."""
    path = folder / "figures.json"
    for number in numbers:
        data = folder / f"data_{number}"
        cache = folder / f"cache_{label}_{number}"
        if not data.exists():
            chiasm(*make_arguments(data, number), cache=cache)
        out = folder / f"run_{label}_{number}"
        shutil.rmtree(out, ignore_errors=True)
        peak, seconds = chiasm(*train_arguments(data, out), cache=cache)
        shutil.rmtree(cache, ignore_errors=True)
        figures = json.loads(path.read_text()) if path.exists() else []
        figures = [f for f in figures if (f["label"], f["parts"]) != (label, number)]
        figures.append(
            {
                "label": label,
                "parts": number,
                "peak_memory_mb": round(peak, 1),
                "seconds": round(seconds, 1),
                "load": round(os.getloadavg()[0], 1),
                "commit": commit,
                "machine": machine(),
            }
        )
        path.write_text(json.dumps(figures, indent=1) + "\n")
        print(figures[-1], flush=True)


def make_arguments(data: Path, number: int) -> list[str]:
    """Return the command that makes the parts."""
    return [
        *("data", "make", str(data), "--products", PRODUCT, "--train", str(number)),
        *("--validation", "8", "--test-good", "1", "--test-per-defect", "1"),
    ]


def train_arguments(data: Path, out: Path) -> list[str]:
    """Return the command that is measured."""
    return ["train", "--data", str(data / PRODUCT), "--out", str(out), *TINY]


def render(folder: Path) -> None:
    """Write ``memory.json`` and ``memory.md``."""
    figures: list[dict[str, Any]] = json.loads((folder / "figures.json").read_text())
    (RESULTS / "memory.json").write_text(json.dumps(figures, indent=1) + "\n")
    labels = list(dict.fromkeys(f["label"] for f in figures))
    numbers = sorted({f["parts"] for f in figures})
    peak = {(f["label"], f["parts"]): f["peak_memory_mb"] for f in figures}
    commits = {f["label"]: f["commit"] for f in figures}
    lines = [
        "# Peak memory of training",
        "",
        "Peak resident memory (`ru_maxrss`) of `chiasm train` with `adnas_light`, each run in a",
        f"process of its own, on made parts (`{PRODUCT}`), seed 0. MB = 2^20 bytes.",
        "",
        "| Code | " + " | ".join(f"{n} parts" for n in numbers) + " | MB a part, from "
        f"{numbers[0]} to {numbers[-1]} |",
        "| --- |" + " --- |" * (len(numbers) + 1),
    ]
    for label in labels:
        values = [peak.get((label, n)) for n in numbers]
        row = " | ".join("–" if v is None else f"{v:.0f}" for v in values)
        first, last = values[0], values[-1]
        slope = "–"
        if first is not None and last is not None:
            slope = f"{(last - first) / (numbers[-1] - numbers[0]):.2f}"
        lines.append(f"| {label} ({commits[label]}) | {row} | {slope} |")
    data, out = Path("data"), Path("runs/memory")
    lines += [
        "",
        f"Machine: {figures[0]['machine']}; other work was running on it, which does not change",
        "the memory. Commands, with N parts:",
        "",
        "```",
        "chiasm " + " ".join(make_arguments(data, 0)).replace("--train 0", "--train N"),
        "chiasm " + " ".join(train_arguments(data, out)),
        "```",
        "",
        "Figures: [memory.json](memory.json). Script: `docs/results/scripts/measure_memory.py`.",
    ]
    (RESULTS / "memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--label", default="after")
    parser.add_argument("--parts", default=",".join(map(str, PARTS)))
    parser.add_argument("--commit", default="", help="of the code that is imported")
    parser.add_argument("--render", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.render:
        render(given.folder)
    else:
        measure(given.folder, given.label, [int(n) for n in given.parts.split(",")], given.commit)
