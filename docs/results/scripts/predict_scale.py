"""Predictions in shards: two workers against one, memory of the driver, killed workers.

Run on a quiet machine (an hour or more at full size):
  python docs/results/scripts/predict_scale.py --work scale \\
      --output docs/results/predict_scale.json
Without --run a small model is trained on parts that are made, so that judging is cheap and the
overhead of the shards is seen at its largest. With --run and --parts the times are those of a
model of yours.
  python docs/results/scripts/predict_scale.py --render docs/results/predict_scale.json
only writes the table of docs/scaling.md from what was measured.

references  A part is a pair of files. Few real ones are named many times, by hard links: these are
            references, not different parts, and the files come from the page cache.
workers     wall seconds of `chiasm predict` with 1 and with 2 workers, all that it does included
driver      largest resident memory of the process that was started, not of its workers
killed      workers that get SIGKILL at random moments; the table afterwards against the one before
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

MARKS = ("<!-- measured -->", "<!-- end of measured -->")
PROGRAM = [sys.executable, "-c", "from chiasm.cli.main import main; main()"]
FEW = 1_000  # references of the smaller run
KILLS = 3
REAL = 40  # parts that are made


@dataclass
class Run:
    """A prediction that ran to its end.

    Attributes:
        references: that were judged.
        workers: at a time.
        seconds: of the whole command.
        driver_mib: largest resident memory of the driver.
        shards: of the plan.
        shard_size: references of a shard.
        table: SHA-256 over the rows.
        verdict_bytes, heat_map_bytes: of the files.
    """

    references: int
    workers: int
    seconds: float
    driver_mib: float
    shards: int
    shard_size: int
    table: str
    verdict_bytes: int
    heat_map_bytes: int


def make_references(parts: Path, folder: Path, count: int) -> Path:
    """Name the pairs of rgb/ and xyz/ again and again, until there are ``count`` names."""
    pairs = [
        (rgb, parts / "xyz" / f"{rgb.stem}.tiff") for rgb in sorted((parts / "rgb").glob("*.png"))
    ]
    for role in ("rgb", "xyz"):
        (folder / role).mkdir(parents=True)
    for number in range(count):
        for role, path in zip(("rgb", "xyz"), pairs[number % len(pairs)]):
            os.link(path, folder / role / f"{number:07d}{path.suffix}")
    return folder


def make_parts(work: Path, seed: int) -> tuple[Path, Path]:
    """Make parts and train a small model on others; return the model and the folder of parts."""
    from chiasm import api
    from chiasm.detection.scenes.maker import make_scenes

    make_scenes(
        work / "scenes",
        products=("flange",),
        train=20,
        validation=24,  # as many as the promised rate needs, so that parts are decided on
        test_good=REAL // 2,
        test_per_defect=REAL // 10,
        size=256,
        seed=seed,
    )
    data = work / "scenes" / "flange"
    api.train(
        data=data, out=work / "run", model="pixel_gaussian", image_size=128, rotate=False, seed=seed
    )
    for role, suffix in (("rgb", ".png"), ("xyz", ".tiff")):
        (work / "parts" / role).mkdir(parents=True)
        for number, path in enumerate(sorted((data / "test").glob(f"*/{role}/*{suffix}"))):
            shutil.copy(path, work / "parts" / role / f"{number:03d}{suffix}")
    return work / "run", work / "parts"


def predict(
    model: Path, inputs: Path, out: Path, workers: int, *, killer: Killer | None = None
) -> Run:
    """Run the command to its end, and watch its memory."""
    words = ["predict", model, inputs, "--out", out, "--workers", workers, "--quiet"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if killer is not None:
        killer.watch(process.pid, out)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident_peak(process.pid))
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    if process.returncode:
        raise SystemExit(f"chiasm predict ended with status {process.returncode}.")
    seconds = time.perf_counter() - started
    plan = json.loads((out / "plan.json").read_text())
    return Run(
        references=plan["count"],
        workers=workers,
        seconds=round(seconds, 2),
        driver_mib=round(peak, 1),
        shards=plan["shards"],
        shard_size=plan["shard_size"],
        table=_table_digest(out),
        verdict_bytes=_bytes(out / "verdicts"),
        heat_map_bytes=_bytes(out / "heat_maps"),
    )


class Killer:
    """Kills a worker each time that a number of shards, drawn by chance, is complete."""

    def __init__(self, shards: int, seed: int) -> None:
        rng = random.Random(seed)
        self.moments = sorted(rng.sample(range(1, max(shards, KILLS + 1)), KILLS))
        self._rng = rng
        self.killed: list[int] = []

    def watch(self, driver: int, out: Path) -> None:
        """Begin, in a thread."""
        threading.Thread(target=self._kill, args=(driver, out), daemon=True).start()

    def _kill(self, driver: int, out: Path) -> None:
        for moment in self.moments:
            while len(list((out / "verdicts").glob("part-*.parquet"))) < moment:
                if not Path(f"/proc/{driver}").exists():
                    return
                time.sleep(0.05)
            time.sleep(self._rng.uniform(0, 1))
            workers = _workers_of(driver)
            if workers:
                os.kill(self._rng.choice(workers), signal.SIGKILL)
                self.killed.append(moment)


def measure(
    model: Path, parts: Path, work: Path, count: int, few: int, seed: int
) -> dict[str, object]:
    """Return all runs."""
    few = min(few, count)
    runs: dict[str, object] = {}
    folders = {few: make_references(parts, work / "few", few)}
    folders[count] = folders[few] if count == few else make_references(parts, work / "many", count)
    one = predict(model, folders[count], work / "out_one", 1)
    two = predict(model, folders[count], work / "out_two", 2)
    small = predict(model, folders[few], work / "out_few", 2)
    # Complete already: what is left is to start, to list the references and to read the counts.
    listed = predict(model, folders[count], work / "out_two", 2)
    listed_few = predict(model, folders[few], work / "out_few", 2)
    killer = Killer(two.shards, seed)
    killed = predict(model, folders[count], work / "out_killed", 2, killer=killer)
    runs["one_worker"], runs["two_workers"], runs["few"] = asdict(one), asdict(two), asdict(small)
    runs["listing"], runs["listing_few"] = asdict(listed), asdict(listed_few)
    runs["killed"] = asdict(killed) | {"kills": len(killer.killed)}
    runs["speedup"] = round(one.seconds / two.seconds, 3)
    runs["same_table"] = one.table == two.table == killed.table
    return runs


def constants(runs: dict) -> dict[str, float]:
    """Return what the paper's arithmetic needs, from two sizes of runs with two workers.

    seconds_each       of one worker for one reference
    listing_each       seconds of the driver for one reference, before the first shard
    start              seconds that do not depend on the number of references
    bytes_each         of the tables and heat maps
    """
    many, few = runs["two_workers"], runs["few"]
    listing, listing_few = runs["listing"], runs["listing_few"]
    more = many["references"] - few["references"]
    listing_each = (listing["seconds"] - listing_few["seconds"]) / more if more else 0.0
    judged = many["seconds"] - listing["seconds"]
    judged_few = few["seconds"] - listing_few["seconds"]
    seconds_each = many["workers"] * (
        (judged - judged_few) / more if more else judged / many["references"]
    )
    start = few["seconds"] - few["references"] * (seconds_each / few["workers"] + listing_each)
    size = many["verdict_bytes"] + many["heat_map_bytes"]
    return {
        "seconds_each": seconds_each,
        "listing_each": max(listing_each, 0.0),
        "start": max(start, 0.0),
        "bytes_each": size / many["references"],
    }


def render(result: dict) -> str:
    """Return the table of docs/scaling.md."""
    known, runs = constants(result["runs"]), result["runs"]
    if known["seconds_each"] <= 0:
        raise SystemExit(
            "The larger run took no longer than the smaller one: the machine was busy, or there "
            "were too few references. Measure again."
        )
    workers = runs["two_workers"]["workers"]
    many, few = runs["two_workers"], runs["few"]
    outcome = "the same table" if runs["same_table"] else "ANOTHER TABLE"
    sizes = f"{few['references']:,} and {many['references']:,} references"
    lines = [
        f"Measured with {many['references']:,} references on {result['machine']}, commit "
        f"{result['commit']}, {result['model']}:",
        "",
        "| Constant | Measured |",
        "| --- | --- |",
        f"| `seconds_each`, one worker | {known['seconds_each'] * 1000:.1f} ms |",
        f"| `listing_each`, the driver | {known['listing_each'] * 1e6:.0f} µs |",
        f"| `start` | {known['start']:.1f} s |",
        f"| `bytes_each`, with heat maps of defective parts | {known['bytes_each']:.0f} bytes |",
        f"| two workers against one | {runs['speedup']:.2f} times |",
        f"| driver, {sizes} | {few['driver_mib']:.0f} and {many['driver_mib']:.0f} MiB |",
        f"| {runs['killed']['kills']} workers killed at random | {outcome} |",
        "",
        f"On paper, machines like this one with {workers} workers each:",
        "",
        "| Parts | Machines | Listing | Judging | Machine-hours | Results |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for parts, machines in ((20_000, 1), (1_000_000, 1), (1_000_000, 4), (1_000_000, 16)):
        listing = known["start"] + parts * known["listing_each"]
        judging = parts * known["seconds_each"] / (machines * workers)
        hours = machines * (listing + judging) / 3600
        lines.append(
            f"| {parts:,} | {machines} | {_duration(listing)} | {_duration(judging)} | "
            f"{hours:.1f} | {parts * known['bytes_each'] / 1e9:.2f} GB |"
        )
    return "\n".join(lines)


def write_page(result: dict, page: Path) -> None:
    """Put the table between the marks of the page."""
    text = page.read_text()
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(f"{before}{MARKS[0]}\n{render(result)}\n{MARKS[1]}{after}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _resident_peak(process: int) -> float:
    """Return MiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _workers_of(driver: int) -> list[int]:
    """Return the worker processes of a driver, not Python's own that keeps track of resources."""
    workers = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(
                line.split()[1] for line in path.read_text().splitlines() if line.startswith("PPid")
            )
            command = (path.parent / "cmdline").read_bytes()
        except (OSError, StopIteration):
            continue
        if int(parent) == driver and b"spawn_main" in command:
            workers.append(int(path.parent.name))
    return sorted(workers)


def _table_digest(out: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((out / "verdicts").glob("part-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("part-*.parquet"))


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return f"{cores} cores of {name or platform.machine()}"


def main() -> None:
    """Measure, write the JSON, and render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="New folder for parts, references and results.")
    parser.add_argument("--output", type=Path, help="JSON file of the figures.")
    parser.add_argument("--render", type=Path, help="JSON file to render the page from.")
    parser.add_argument("--page", type=Path, default=Path("docs/scaling.md"))
    parser.add_argument("--references", type=int, default=20_000)
    parser.add_argument("--few", type=int, default=FEW, help="References of the smaller run.")
    parser.add_argument("--run", type=Path, help="A trained or exported model.")
    parser.add_argument("--parts", type=Path, help="Folder with rgb/ and xyz/ of its parts.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.render is not None:
        write_page(json.loads(options.render.read_text()), options.page)
        return
    if options.work is None or (options.run is None) != (options.parts is None):
        parser.error("--work is needed, and --run and --parts go together.")
    options.work.mkdir(parents=True)
    model, parts = options.run, options.parts
    if model is None:
        model, parts = make_parts(options.work, options.seed)
    runs = measure(model, parts, options.work, options.references, options.few, options.seed)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": _machine(),
        "seed": options.seed,
        "model": "pixel_gaussian at 128 pixels" if options.run is None else str(options.run),
        "real_parts": len(list((parts / "rgb").glob("*.png"))),
        "runs": runs,
        "constants": constants(runs),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
