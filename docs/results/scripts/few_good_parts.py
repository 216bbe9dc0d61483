"""Measure false alarms and found defects of trainings with fifteen good parts, over many made sets.

python docs/results/scripts/few_good_parts.py --out FOLDER --sets 200

Each set is rendered anew: its good parts for training, fresh good parts, and one part of each kind
of defect. A model trains as a user's does (``calibration=auto``), once with the scores of all parts
pooled and once with as many parts held out as the rate needs, as a model does that learns by
gradient steps. Sets are added to OUT/few_good_parts.json, so that an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from record import machine

from chiasm.detection.config import DetectionConfig
from chiasm.detection.opening import open_data
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.readers.calibration_plan import Promise, plan_split
from chiasm.detection.readers.opening import open_source
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train

ARMS = {"pooled": True, "held out": False}


def run(folder: Path, *, pooled: bool, rate: float, seed: int, settings: list[str]) -> list[int]:
    """Return alarms among fresh good parts, their number, alarms among defects, their number."""
    out = folder / f"run-{pooled}"
    out.mkdir()
    config = DetectionConfig.make(
        data=folder / "flange",
        out=out,
        false_alarm_rate=rate,
        rotate=False,
        seed=seed,
        overrides=settings,
    )
    source = open_source(config.data)
    split = plan_split(
        source,
        Promise(rate),
        mode=config.calibration,
        pools_scores=lambda: pooled,
        calibration_share=config.calibration_share,
        seed=seed,
    )
    train(config, data=open_data(config, split=split))
    model = DetectionPredictor.load(out)
    decisions = [
        (ref.label, bool(model.predict(source.load(ref)).defective))
        for ref in source.refs
        if ref.split == "test"
    ]
    good = [defective for label, defective in decisions if label == 0]
    bad = [defective for label, defective in decisions if label == 1]
    return [sum(good), len(good), sum(bad), len(bad)]


def main() -> None:
    """Read the command line and run the missing sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--parts", type=int, default=15)
    parser.add_argument("--fresh", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    overrides = arguments.overrides or ["model=pixel_gaussian", "image_size=64"]
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["CHIASM_CACHE"] = str(arguments.out / "cache")
    file = arguments.out / "few_good_parts.json"
    figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"sets": {}}
    for number in range(arguments.sets):
        if str(number) in figures["sets"]:
            continue
        folder = arguments.out / f"set{number}"
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.redirect_stdout(io.StringIO()):
            make_scenes(
                folder,
                products=("flange",),
                train=arguments.parts,
                validation=0,
                test_good=arguments.fresh,
                test_per_defect=1,
                size=96,
                seed=number,
            )
            figures["sets"][str(number)] = {
                arm: run(
                    folder, pooled=pooled, rate=arguments.rate, seed=number, settings=overrides
                )
                for arm, pooled in ARMS.items()
            }
        shutil.rmtree(folder)
        shutil.rmtree(arguments.out / "cache", ignore_errors=True)
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
        figures |= {
            "command": "python docs/results/scripts/few_good_parts.py --out FOLDER "
            f"--sets {arguments.sets}",
            "settings": overrides,
            "parts": arguments.parts,
            "rate": arguments.rate,
            "commit": commit.stdout.decode().strip(),
            "machine": machine(),
            "arms": {arm: _summary(figures["sets"], arm) for arm in ARMS},
        }
        file.write_text(json.dumps(figures, indent=1) + "\n")
        print(number, figures["arms"], flush=True)


def _summary(sets: dict[str, dict[str, list[int]]], arm: str) -> dict[str, float]:
    counts = np.array([of_set[arm] for of_set in sets.values()], dtype=float)
    shares = counts[:, 0] / counts[:, 1]
    return {
        "sets": len(counts),
        "false_alarm_rate": round(float(shares.mean()), 4),
        "standard_error": round(float(shares.std() / len(shares) ** 0.5), 4),
        "sets_with_an_alarm_on_a_defect": round(float((counts[:, 2] > 0).mean()), 4),
        "defects_found": round(float(counts[:, 2].sum() / counts[:, 3].sum()), 4),
    }


if __name__ == "__main__":
    main()
