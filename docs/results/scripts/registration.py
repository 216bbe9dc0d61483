"""Measure the registration of 1920 x 1080 colours to 640 x 480 depth on one core.

Usage: python docs/results/scripts/registration.py OUT.json [FRAMES]
The scene is a block on a table with 10 % of the depth missing; both cameras have distortion.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from record import machine

from chiasm.detection.readers.camera import Intrinsics
from chiasm.detection.sensors.registration import register_colour

LENS = (0.1, -0.2, 0.001, 0.001, 0.05)
DEPTH = Intrinsics(600.0, 600.0, 319.5, 239.5, distortion=LENS)
COLOUR = Intrinsics(1400.0, 1400.0, 959.5, 539.5, distortion=LENS)


def main() -> None:
    """Write milliseconds a frame: the processor's time, and by the clock."""
    out, frames = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    depth = np.full((480, 640), 0.6, np.float32)
    depth[160:320, 220:420] -= 0.05
    depth[rng.random(depth.shape) < 0.1] = 0
    extrinsic = np.eye(4)
    extrinsic[0, 3] = -0.05
    eight = rng.integers(0, 255, (1080, 1920, 3)).astype(np.uint8)
    figures = {}
    for name, rgb in (("8 bits", eight), ("float32", eight.astype(np.float32) / 255)):
        spent, passed = [], []
        for _ in range(frames + 1):
            start, clock = time.process_time(), time.perf_counter()
            register_colour(
                rgb, depth, depth_camera=DEPTH, colour_camera=COLOUR, extrinsic=extrinsic
            )
            spent.append(1000 * (time.process_time() - start))
            passed.append(1000 * (time.perf_counter() - clock))
        figures[name] = {  # without the first frame, which computes the rays of the pixels
            "processor_ms": round(float(np.median(spent[1:])), 1),
            "clock_ms": round(float(np.median(passed[1:])), 1),
            "clock_ms_least": round(min(passed[1:]), 1),
        }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    result = {
        "frames": frames,
        "seed": 0,
        "figures": figures,
        "load": round(os.getloadavg()[0], 1),
        "commit": commit.stdout.strip(),
        "machine": machine(),
        "versions": {"numpy": np.__version__, "cv2": cv2.__version__},
    }
    out.write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "# Registration of a second camera",
        "",
        "1920 x 1080 colours into the frame of 640 x 480 depth, one core; median of "
        f"{frames} frames of one scene with 10 % of the depth missing, both lenses distorted. "
        f"Load of the machine while measuring: {result['load']} on {os.cpu_count()} cores; the "
        "processor's time is that of this process alone.",
        "",
        "| colours | processor, ms a frame | clock, ms a frame | clock, least |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {f['processor_ms']} | {f['clock_ms']} | {f['clock_ms_least']} |"
        for name, f in figures.items()
    ]
    lines += ["", f"Commit {result['commit']}; {result['machine']}.", ""]
    lines += [f"`python docs/results/scripts/registration.py {out} {frames}`", ""]
    out.with_suffix(".md").write_text("\n".join(lines))


main()
