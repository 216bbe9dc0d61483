"""Measure the false-alarm rate that a cross calibration keeps, on made parts.

python docs/results/scripts/cross_coverage.py --out FOLDER --name pixel_gaussian \
    --parts 40 --draws 40 model=pixel_gaussian image_size=64

Renders one pool of good parts. Each draw takes some of them for training, calibrates by ``cross``,
and counts the alarms among fresh ones of the rest. The figures are means over draws; the 90 %
quantile says how one calibration varies. Draws are added to OUT/NAME.json, so that an interrupted
measurement resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from record import machine

from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.decision import AlarmRule
from chiasm.detection.opening import open_data
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.splits import Split
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train

RATES = (0.05, 0.1, 0.2)


def draw(config: DetectionConfig, *, parts: int, fresh: int, number: int) -> dict[str, float]:
    """Return the share of fresh good parts that alarm at each rate, after one cross calibration."""
    source = Mvtec3d(config.data)
    refs = [ref for ref in source.refs if ref.split == "train"]
    order = np.random.default_rng(number).permutation(len(refs)).tolist()
    chosen = tuple(refs[i] for i in order[:parts])
    config = config.model_copy(update={"out": config.out / str(number), "seed": number})
    config.out.mkdir(parents=True, exist_ok=True)
    train(config, data=open_data(config, split=Split(chosen, chosen, ())))
    model = DetectionPredictor.load(config.out)
    normals = read_contract(config.out / "model").calibration_scores
    scores = [model.predict(source.load(refs[i])).score for i in order[parts : parts + fresh]]
    folds = config.calibration_folds
    shares = {
        str(rate): float(AlarmRule(normals, rate, None, folds).decide(scores)[1].mean())
        for rate in RATES
    }
    shutil.rmtree(config.out)
    return shares


def main() -> None:
    """Read the command line and run the missing draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--fresh", type=int, default=150)
    parser.add_argument("--pool", type=int, default=400)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    os.environ["CHIASM_CACHE"] = str(arguments.out / "cache")
    pool = arguments.out / "pool"
    if not pool.exists():
        make_scenes(
            pool,
            products=("flange",),
            train=arguments.pool,
            validation=0,
            test_good=1,
            test_per_defect=0,
            size=arguments.size,
        )
    config = DetectionConfig.make(
        data=pool / "flange",
        out=arguments.out / arguments.name,
        calibration="cross",
        overrides=arguments.overrides,
        rotate=False,
    )
    file = arguments.out / f"{arguments.name}.json"
    figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"draws": {}}
    for number in range(arguments.draws):
        if str(number) not in figures["draws"]:
            figures["draws"][str(number)] = draw(
                config, parts=arguments.parts, fresh=arguments.fresh, number=number
            )
        shares = {rate: [d[str(rate)] for d in figures["draws"].values()] for rate in RATES}
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
        figures |= {
            "settings": arguments.overrides,
            "parts": arguments.parts,
            "fresh": arguments.fresh,
            "commit": commit.stdout.decode().strip(),
            "machine": machine(),
            "rates": {
                str(rate): {
                    "mean": round(float(np.mean(values)), 4),
                    "standard_error": round(float(np.std(values) / len(values) ** 0.5), 4),
                    "quantile_90": round(float(np.quantile(values, 0.9)), 4),
                }
                for rate, values in shares.items()
            },
        }
        file.write_text(json.dumps(figures, indent=1) + "\n")
        print(number, figures["rates"], flush=True)


if __name__ == "__main__":
    main()
