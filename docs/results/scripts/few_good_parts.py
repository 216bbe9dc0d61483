"""Measure false alarms and found defects of fifteen good parts, over many sets of made parts.

python docs/results/scripts/few_good_parts.py --out FOLDER --sets 200

Good and defective parts are rendered once. Each set draws its good parts from them, divides them
as ``calibration=auto`` does, fits ``pixel_gaussian`` to them, and judges good parts that are not in
the set, and all defective ones: once with the scores of all parts pooled in five folds, and once
with as many parts held out as the rate needs, as for models that learn by gradient steps. The scale
of the heights is that of all parts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from record import machine

from chiasm.detection.decision import AlarmRule
from chiasm.detection.models.pixel_gaussian import pixel_gaussian
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import estimate_geometry_scale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.calibration_plan import Promise, plan_split
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.splits import divide_into_folds
from chiasm.detection.readers.survey import survey
from chiasm.detection.scenes.maker import make_scenes
from chiasm.samples import RGBDBatch

SIZE, FOLDS = 64, 5


class Scores:
    """Scores of parts by models that are fitted to others."""

    def __init__(self, batch: RGBDBatch) -> None:
        self.foreground = batch.foreground
        self.features = pixel_gaussian(image_size=SIZE).extract_features(batch)

    def of(self, parts: list[int], *, fitted_to: list[int]) -> list[float]:
        """Return the scores of some parts by a model that is fitted to others."""
        model = pixel_gaussian(image_size=SIZE)
        model.partial_fit("moments", self._chosen(fitted_to), torch.tensor(fitted_to))
        model.finish_fit("moments")
        output, foreground = model.predict(self._chosen(parts)), self.foreground[parts]
        maps = model.scores(output, foreground)
        scores: list[float] = model.image_scores(output, maps, foreground).tolist()
        return scores

    def _chosen(self, parts: list[int]) -> dict[str, torch.Tensor]:
        return {name: values[parts] for name, values in self.features.items()}


def calibrated(scores: Scores, train: list[int], calibration: list[int], seed: int) -> list[float]:
    """Return calibration scores; of the same parts as train, each by a model without its fold."""
    if train != calibration:
        return scores.of(calibration, fitted_to=train)
    normals: list[float] = []
    for fold in divide_into_folds([""] * len(train), FOLDS, seed=seed):
        others = [part for i, part in enumerate(train) if i not in fold]
        normals += scores.of([train[i] for i in fold], fitted_to=others)
    return normals


@torch.no_grad()
def main() -> None:
    """Read the command line, draw the sets and write OUT/few_good_parts.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--parts", type=int, default=15)
    parser.add_argument("--fresh", type=int, default=100)
    parser.add_argument("--pool", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["CHIASM_CACHE"] = str(arguments.out / "cache")
    pool = arguments.out / "pool"
    if not pool.exists():
        make_scenes(
            pool,
            products=("flange",),
            train=arguments.pool,
            validation=0,
            test_good=1,
            test_per_defect=5,
            size=96,
        )
    source = Mvtec3d(pool / "flange")
    good = [ref for ref in source.refs if ref.split == "train"]
    bad = [ref for ref in source.refs if ref.label == 1]
    settings, _ = survey(source, good, PreparationSettings(size=SIZE), remove_background="auto")
    cache = PreparationCache()
    parts = [cache.get(source, ref, settings) for ref in (*good, *bad)]
    scores = Scores(to_batch(parts, estimate_geometry_scale(parts[: len(good)])))
    positions = {ref.source: number for number, ref in enumerate(good)}
    counts: dict[str, list[list[int]]] = {"pooled": [], "held out": []}
    for number in range(arguments.sets):
        order = np.random.default_rng(number).permutation(len(good)).tolist()
        chosen = tuple(good[i] for i in sorted(order[: arguments.parts]))
        drawn: Any = SimpleNamespace(name=source.name, refs=chosen)
        fresh = order[arguments.parts : arguments.parts + arguments.fresh]
        for arm, found in counts.items():
            split = plan_split(
                drawn,
                Promise(arguments.rate),
                mode="auto",
                pools_scores=lambda arm=arm: arm == "pooled",
                calibration_share=0.2,
                seed=number,
            )
            train, calibration = (
                [positions[ref.source] for ref in refs] for refs in (split.train, split.calibration)
            )
            rule = AlarmRule(
                calibrated(scores, train, calibration, number),
                arguments.rate,
                None,
                folds=FOLDS if split.crossed else 0,
            )
            defective = list(range(len(good), len(parts)))
            judged = scores.of([*fresh, *defective], fitted_to=train)
            alarms = rule.decide(judged)[1]
            found.append([int(alarms[: len(fresh)].sum()), int(alarms[len(fresh) :].sum())])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
    figures = {
        "command": f"python docs/results/scripts/few_good_parts.py --out FOLDER --sets "
        f"{arguments.sets}",
        "parts": arguments.parts,
        "fresh": arguments.fresh,
        "defective": len(bad),
        "rate": arguments.rate,
        "commit": commit.stdout.decode().strip(),
        "machine": machine(),
        "arms": {
            arm: _summary(np.array(found), arguments.fresh, len(bad))
            for arm, found in counts.items()
        },
    }
    (arguments.out / "few_good_parts.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures["arms"], indent=1))


def _summary(counts: np.ndarray, fresh: int, defective: int) -> dict[str, float]:
    shares = counts[:, 0] / fresh
    return {
        "sets": len(counts),
        "false_alarm_rate": round(float(shares.mean()), 4),
        "standard_error": round(float(shares.std() / len(shares) ** 0.5), 4),
        "quantile_90": round(float(np.quantile(shares, 0.9)), 4),
        "sets_with_an_alarm_on_a_defect": round(float((counts[:, 1] > 0).mean()), 4),
        "defects_found": round(float(counts[:, 1].mean() / defective), 4),
    }


if __name__ == "__main__":
    main()
