"""Time the preparation of a part, stage by stage, on one thread.

It measures the processor time of the thread, which other load disturbs less than wall-clock time.
--against is the src folder of another version (with the same module names), measured in turn with
ours, so that the ratios are of one run:
  git worktree add ../before COMMIT
  python docs/results/scripts/bench_preparation.py --data shared/data/mvtec_3d/cable_gland \
      --against ../before/src --output docs/results/preparation.json

plane     the support plane
object    the mask of the part
prepare   everything from the frame to the prepared part, the two above included
picture   the geometry picture
paste     scores and mask back into the frame
part      prepare, picture and paste
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

PARTS = 50
STAGES = ("plane", "object", "prepare", "picture", "paste")


def stages(data: Path) -> list[Callable[[], dict[str, float]]]:
    """Return a call for each part, which times its stages in seconds; files are read before."""
    from chiasm.detection.preparation import prepare as point_cloud
    from chiasm.detection.preparation.geometry import GeometryScale, geometry_picture
    from chiasm.detection.preparation.support_plane import fit_support_plane
    from chiasm.detection.readers.opening import open_source

    settings, scale = point_cloud.PreparationSettings(), GeometryScale(height=0.03)

    def measured(sample: Any) -> dict[str, float]:
        clock = [time.thread_time()]
        plane = fit_support_plane(sample.xyz, sample.valid)
        clock.append(time.thread_time())
        point_cloud.object_mask(sample, plane, settings)
        clock.append(time.thread_time())
        part = point_cloud.prepare(sample, settings)
        clock.append(time.thread_time())
        geometry_picture(part, scale)
        clock.append(time.thread_time())
        point_cloud.paste(part.depth, part.box)
        point_cloud.paste_mask(part.foreground, part.box)
        clock.append(time.thread_time())
        return dict(zip(STAGES, np.diff(clock).tolist(), strict=True))

    source = open_source(data)
    refs = source.refs[:: max(1, len(source.refs) // PARTS)][:PARTS]
    samples = [source.load(ref) for ref in refs]
    return [lambda s=sample: measured(s) for sample in samples]


def serve(data: Path) -> None:
    """Time the next part for each line that comes in, until none comes."""
    cv2.setNumThreads(1)
    calls = stages(data)
    print(json.dumps(len(calls)), flush=True)
    for number, _ in enumerate(sys.stdin):
        print(json.dumps(calls[number % len(calls)]()), flush=True)


class Side:
    """One state of the project in a process of its own."""

    def __init__(self, data: Path, source: Path | None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        if source is not None:
            environment["PYTHONPATH"] = str(source.resolve())
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--data", str(data), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.parts = self._answer()

    def next(self) -> dict[str, float]:
        """Stages of the next part, seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Milliseconds of each stage, and of a part in all."""
    table = {stage: np.array([row[stage] for row in rows]) for stage in STAGES}
    table["part"] = table["prepare"] + table["picture"] + table["paste"]
    return {stage: round(1000 * float(np.median(times)), 2) for stage, times in table.items()}


def main() -> None:
    """Measure, side by side, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.data[0])
        return
    figures: dict[str, Any] = {}
    for data in given.data:
        sides = {"now": Side(data, None)}
        if given.against is not None:
            sides["before"] = Side(data, given.against)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        number = sides["now"].parts
        for turn in range(2 * number):
            for name, side in sides.items():
                row = side.next()
                if turn >= number:  # the first round warms up
                    rows[name].append(row)
        entry: dict[str, Any] = {name: medians(row) for name, row in rows.items()}
        if "before" in entry:
            entry["times_faster"] = round(entry["before"]["part"] / entry["now"]["part"], 1)
        for side in sides.values():
            assert side.process.stdin is not None
            side.process.stdin.close()
            side.process.wait()
        figures["/".join(data.parts[-2:])] = {"parts": number, **entry}
        print("/".join(data.parts[-2:]), json.dumps(entry), flush=True)
    figures["unit"] = "milliseconds of processor time, median over the parts, one thread"
    figures["machine"] = platform.processor() or platform.machine()
    if given.output:
        given.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
