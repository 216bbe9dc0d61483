"""Seconds and memory of `chiasm data check`, for few parts and for many.

Run on a quiet machine (some minutes):
  python docs/results/scripts/data_check.py --work check --output docs/results/data_check.json
writes data_check.json and data_check.md beside it.

parts       200 made parts of 256 x 256 pixels (seed 0), named again and again by hard links within
            their split and kind: references and not different parts, whose files come from the page
            cache
plain       the same with point maps without compression, which all have one size, so that their
            contents must be compared
seconds     of the whole command with its page, start of Python included
memory      largest resident memory of the command and of its workers together, MiB
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tifffile

PROGRAM = [sys.executable, "-c", "from chiasm.cli.main import main; main()"]
COUNTS = {"train": 150, "validation": 20, "test_good": 14, "test_per_defect": 2}


def make_parts(folder: Path) -> dict[str, Path]:
    """Make 200 parts, and once more without compression."""
    from chiasm.detection.scenes.maker import make_scenes

    packed = make_scenes(folder / "packed", products=("flange",), size=256, seed=0, **COUNTS)[0]
    plain = folder / "plain" / packed.name
    shutil.copytree(packed, plain)
    for path in plain.rglob("xyz/*.tiff"):
        points = tifffile.imread(path)
        tifffile.imwrite(path, points, photometric="minisblack", planarconfig="contig")
    return {"compressed": packed, "plain": plain}


def link_parts(parts: Path, folder: Path, times: int) -> int:
    """Name all parts of each split and kind ``times`` times; return the number of parts."""
    count = 0
    for role in sorted(path for path in parts.glob("*/*/*") if path.is_dir()):
        target = folder / role.relative_to(parts)
        target.mkdir(parents=True)
        for path in sorted(role.iterdir()):
            for number in range(times):
                os.link(path, target / f"{path.stem}_{number:04d}{path.suffix}")
            count += times * (role.name == "rgb")
    return count


def resident(process: int) -> float:
    """Return the resident memory of a process and of those that it started, MiB."""
    total, waiting = 0.0, [process]
    while waiting:
        number = waiting.pop()
        try:
            status = Path(f"/proc/{number}/status").read_text()
            children = Path(f"/proc/{number}/task/{number}/children").read_text()
        except OSError:
            continue
        rows = [line.split() for line in status.splitlines() if line.startswith("VmRSS")]
        total += sum(int(row[1]) for row in rows) / 1024
        waiting += map(int, children.split())
    return total


def check(folder: Path, workers: int) -> dict[str, Any]:
    """Run the command to its end, and watch its memory."""
    page = folder.parent / f"{folder.name}.html"
    words = ["data", "check", str(folder), "--workers", str(workers), "--json", "--html", str(page)]
    output = folder.parent / f"{folder.name}.json"
    started = time.perf_counter()
    with output.open("w") as stream:
        process = subprocess.Popen(
            [*PROGRAM, *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=stream,
            stderr=subprocess.DEVNULL,
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"chiasm data check ended with status {process.returncode}.")
    report = json.loads(output.read_text())
    return {
        "workers": workers,
        "seconds": round(seconds, 1),
        "memory_mib": round(peak),
        "pixels_read": report["read"],
        "measured": report["statistics"]["measured"],
        "page_kb": round(page.stat().st_size / 1000),
    }


def render(figures: dict[str, Any]) -> str:
    """Return the figures as a page."""
    lines = [
        "# `chiasm data check`, few parts and many",
        "",
        f"`{figures['command']}`, commit {figures['commit']}, {figures['machine']}. "
        "200 made parts (256 x 256, seed 0), named again by hard links: references and not "
        "different parts, with files from the page cache. Names and the ends of all files are "
        "checked; pixels are read of a random sample of every split and kind. Memory is that of "
        "the command and its workers together.",
        "",
        "| parts | point maps | workers | seconds | memory, MiB | pixels read of | measured |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in figures["runs"]:
        lines.append(
            f"| {run['parts']:,} | {run['point_maps']} | {run['workers']} | {run['seconds']:.0f} | "
            f"{run['memory_mib']} | {run['pixels_read']:,} | {run['measured']} |"
        )
    lines += ["", "Asked: 20,000 parts in less than 180 seconds, with flat memory."]
    lines += ["", figures["load"], ""]
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that is made and removed")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--times", default="5,100", help="how often the 200 parts are named")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    runs = []
    load = os.getloadavg()[0]
    try:
        for name, parts in make_parts(options.work).items():
            for times in map(int, options.times.split(",")):
                folder = options.work / f"{name}_{times}"
                count = link_parts(parts, folder, times)
                run = {"parts": count, "point_maps": name, **check(folder, options.workers)}
                print(run, flush=True)
                runs.append(run)
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(options.work, ignore_errors=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line]
    figures = {
        "command": "python docs/results/scripts/data_check.py --work check --output "
        f"docs/results/data_check.json --times {options.times} --workers {options.workers}",
        "seed": 0,
        "commit": commit.stdout.strip(),
        "machine": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, no GPU",
        "load": "Other programs ran meanwhile (load before and after: "
        f"{load:.1f} and {os.getloadavg()[0]:.1f}, priority {os.nice(0)}).",
        "runs": runs,
    }
    options.output.write_text(json.dumps(figures, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(render(figures))


if __name__ == "__main__":
    main()
