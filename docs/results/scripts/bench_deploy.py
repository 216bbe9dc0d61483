"""Speed and memory of exported models beside PyTorch, in one run, on the same samples.

    python docs/results/scripts/bench_deploy.py RUN --parts FOLDER --models fp32=DIR int8=DIR ...
        [--recordings STORE --classifier RUN --diagnosers fp32=DIR ...]

Every figure comes from a process of its own that holds nothing else; PyTorch's is measured before
and after the others, so that a machine that slows down meanwhile is noticed. Times are of twenty
parts in turn; memory is that of a process that holds one part, as a station does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PARTS, CALLS, STREAMED, AHEAD = 20, 60, 200, 6


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def timed(call: Callable[[int], Any], count: int) -> list[float]:
    """Seconds of each call, after three that do not count."""
    for number in range(3):
        call(number)
    found = []
    for number in range(count):
        start = time.perf_counter()
        call(number)
        found.append(time.perf_counter() - start)
    return found


def measured_part(kind: str, model: str, parts: str, threads: int, held: int) -> dict[str, Any]:
    """Measure a detector on ``held`` parts in this process, by PyTorch or by the runtime."""
    from chiasm.files.images import read_rgb, read_xyz

    files = sorted(Path(parts).glob("validation/good/rgb/*.png")) or sorted(
        Path(parts).glob("train/good/rgb/*.png")
    )
    pairs = [(read_rgb(f), read_xyz(f.parents[1] / "xyz" / f"{f.stem}.tiff")) for f in files[:held]]
    if kind == "pytorch":
        import torch

        from chiasm.detection.predictor import DetectionPredictor

        torch.set_num_threads(threads)
        predictor = DetectionPredictor.load(model)
        calls = timed(lambda n: predictor(*pairs[n % len(pairs)]), CALLS)
        return {**percentiles(calls), "frames_per_second": round(1 / float(np.mean(calls)), 2)}
    import chiasm.runtime

    loaded = chiasm.runtime.load(model, threads=threads)
    if kind == "stream":
        loaded.warm_up(streaming=True)
        for future in [loaded.submit(*pairs[n % len(pairs)]) for n in range(3)]:
            future.result()
        start = time.perf_counter()
        waiting: deque[Any] = deque()
        for number in range(STREAMED):
            if len(waiting) == AHEAD:  # a station does not keep what it has acted on
                waiting.popleft().result()
            waiting.append(loaded.submit(*pairs[number % len(pairs)]))
        for future in waiting:
            future.result()
        return {"frames_per_second": round(STREAMED / (time.perf_counter() - start), 2)}
    return percentiles(timed(lambda n: loaded(*pairs[n % len(pairs)]), CALLS))


def measured_recording(kind: str, model: str, store: str, threads: int) -> dict[str, Any]:
    """Measure a classifier in this process, by PyTorch or by the runtime."""
    if kind == "pytorch":
        import torch

        from chiasm.diagnosis.predictor import DiagnosisPredictor
        from chiasm.diagnosis.readers.opening import open_store

        torch.set_num_threads(threads)
        opened = open_store(Path(store))
        samples = [opened.load(ref) for ref in opened.refs[:PARTS]]
        diagnoser = DiagnosisPredictor.load(model)
        return percentiles(timed(lambda n: diagnoser.predict(samples[n % PARTS]), CALLS))
    import chiasm.runtime
    from chiasm.samples import RecordingSample

    # Recordings of the usual shape: an opened store would bring pandas into this process.
    draw = np.random.default_rng(0)
    loaded = chiasm.runtime.load(model, threads=threads)
    form = loaded.deployment.recording
    samples = [
        RecordingSample(
            image=draw.random((256, 256, 3), np.float32),
            series=np.floor(draw.exponential(8.0, (form.channels, 153_600))).astype(np.float32),
            samples_per_cycle=form.samples_per_cycle,
        )
        for _ in range(5)
    ]
    return percentiles(timed(lambda n: loaded.predict(samples[n % 5]), CALLS))


def fresh(what: str, kind: str, model: str, data: str, threads: int) -> dict[str, Any]:
    """Measure in a process of its own, and the memory of parts in another."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    found: dict[str, Any] = {}
    for held in (PARTS, 1) if what == "part" else (PARTS,):
        given = [what, kind, model, data, str(threads), str(held)]
        command = [sys.executable, __file__, "--inside", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        last = json.loads(done.stdout.splitlines()[-1])
        found = {**last, **found, "peak_mb": last["peak_mb"]}
    return found


def inside(arguments: Sequence[str]) -> None:
    """Measure, and print one line of JSON."""
    what, kind, model, data, threads, held = arguments
    if what == "part":
        found = measured_part(kind, model, data, int(threads), int(held))
    else:
        found = measured_recording(kind, model, data, int(threads))
    found["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    print(json.dumps(found))


def main() -> None:
    """Measure everything and write ``docs/results/deploy.json`` and ``deploy.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--parts", required=True)
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--classifier", type=Path)
    parser.add_argument("--recordings")
    parser.add_argument("--diagnosers", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    torch_before = fresh("part", "pytorch", str(given.run), given.parts, given.threads)
    for one in given.models:
        name, _, folder = one.partition("=")
        single = fresh("part", "single", folder, given.parts, given.threads)
        stream = fresh("part", "stream", folder, given.parts, given.threads)
        said = json.loads((Path(folder) / "deployment.json").read_text())
        rows[name] = {
            **single,
            "frames_per_second": stream["frames_per_second"],
            "peak_mb_stream": stream["peak_mb"],
            "parity": {k: v for k, v in said["parity"].items() if k != "limits"},
        }
    torch_after = fresh("part", "pytorch", str(given.run), given.parts, given.threads)
    quicker = max(torch_before["frames_per_second"], torch_after["frames_per_second"])
    for row in rows.values():
        row["times_pytorch"] = round(row["frames_per_second"] / quicker, 2)
    recordings: dict[str, Any] = {}
    if given.classifier and given.recordings:
        recordings["pytorch"] = fresh(
            "recording", "pytorch", str(given.classifier), given.recordings, given.threads
        )
        for one in given.diagnosers:
            name, _, folder = one.partition("=")
            recordings[name] = fresh("recording", "single", folder, "", given.threads)
    found = {
        "threads": given.threads,
        "parts": {"pytorch": torch_before, "pytorch_again": torch_after, **rows},
        "recordings": recordings,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "deploy.json").write_text(json.dumps(found, indent=2) + "\n")
    (given.out / "deploy.md").write_text(table(found))
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        f"# Exported models on {found['threads']} threads",
        "",
        "Frames a second count everything from decoded arrays to score and map; each row is a "
        "process of its own. Times PyTorch: of the quicker of its two. Memory: of a process that "
        "holds one part. Loss: points of image-level AUROC on synthetic anomalies.",
        "",
        "| detector | frames/s | times PyTorch | p50 ms | p95 ms | peak MB | stream | loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in found["parts"].items():
        parity = row.get("parity", {})
        loss = (
            f"{100 * (parity['auroc_float32'] - parity['auroc']):.2f}" if "auroc" in parity else ""
        )
        lines.append(
            f"| {name} | {row['frames_per_second']} | {row.get('times_pytorch', '')} | "
            f"{row['p50_ms']} | {row['p95_ms']} | {row['peak_mb']} | "
            f"{row.get('peak_mb_stream', '')} | {loss} |"
        )
    if found["recordings"]:
        lines += ["", "| classifier | p50 ms | p95 ms | peak MB |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {name} | {row['p50_ms']} | {row['p95_ms']} | {row['peak_mb']} |"
            for name, row in found["recordings"].items()
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2:])
    else:
        main()
