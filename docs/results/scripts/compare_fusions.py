"""Compare ways to fuse with the same features, steps of training and test parts.

python docs/results/scripts/compare_fusions.py --data FOLDER --out FOLDER --seeds 0,1,2 \
    rounds=4 search.epochs=6 train_epochs=15

Every (seed, way) is one run below OUT; a run whose figures exist is not repeated, so that an
interrupted comparison resumes. The table is written to OUT/comparison.json. model=adnas_slim
compares networks from scratch. Minutes are refused: the ways would make unequal numbers of steps.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.layers.features import SourcedFeatures
from chiasm.detection.opening import open_data
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.report.figures import evaluate_scores
from chiasm.detection.report.scored import ScoredSample
from chiasm.detection.train import train
from chiasm.fusion.finalists import random_architecture
from chiasm.samples import PreparedSample, RGBDSample

CELLS = {
    "early": ("early",),
    "middle": ("middle",),
    "late": ("late",),
    "early+middle": ("early", "middle"),
    "early+late": ("early", "late"),
    "middle+late": ("middle", "late"),
}
WAYS: dict[str, dict[str, Any]] = {
    "searched": {"fusion": "search"},
    "concatenation": {"fusion": "concatenation"},
    **{f"random {k}": {"fusion": "random", "genotype_seed": k} for k in range(3)},
    **{f"searched, {name}": {"fusion": "search", "cells": c} for name, c in CELLS.items()},
}


class StoredFeatures(nn.Module):
    """Precomputed features of a frozen source, one part at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.current: SourcedFeatures | None = None

    def forward(self, batch: Any, required: Any = None) -> SourcedFeatures:
        """Return ``current``."""
        assert self.current is not None
        return self.current


class TestParts:
    """Test samples, prepared, with the frozen features of each."""

    def __init__(self, data_module: DetectionDataModule) -> None:
        cache = PreparationCache()
        refs = [ref for ref in data_module.source.refs if ref.split == "test"]
        self.samples: list[RGBDSample] = [data_module.source.load(ref) for ref in refs]
        self.parts: list[PreparedSample] = [
            cache.get(data_module.source, r, data_module.preparation) for r in refs
        ]
        self.features: list[SourcedFeatures] = []
        if data_module.frozen_source is None:
            return
        for part in self.parts:
            batch = to_batch([part], data_module.geometry, modalities=data_module.config.modalities)
            features = data_module.frozen_source(batch)
            half = {name: value.half() for name, value in features.maps.items()}
            self.features.append(SourcedFeatures(half, {}, features.relative))

    @torch.no_grad()
    def figures(self, run: Path) -> dict[str, Any]:
        """Evaluate the model of a run on all test parts."""
        predictor = DetectionPredictor.load(run)
        scored = []
        if not self.features:
            verdicts = predictor.predict_prepared
            for sample, part in zip(self.samples, self.parts):
                scored.append(ScoredSample(verdicts([part])[0], sample))
            return evaluate_scores(scored, cost={})
        stored = StoredFeatures()
        predictor.detector.source = stored
        for sample, part, features in zip(self.samples, self.parts, self.features):
            stored.current = replace(
                features, maps={name: value.float() for name, value in features.maps.items()}
            )
            scored.append(ScoredSample(predictor.predict_prepared([part])[0], sample))
        return evaluate_scores(scored, cost={})


def compare(data: Path, out: Path, seeds: list[int], ways: list[str], overrides: list[str]) -> None:
    """Run every way with every seed, and write the table."""
    rows = []
    if any(override.startswith("minutes=") for override in overrides):
        raise SystemExit("Ways are compared at equal steps: give train_epochs and search.epochs.")
    for seed in seeds:
        data_module: DetectionDataModule | None = None
        test: TestParts | None = None
        for way in ways:
            settings = dict(WAYS[way])
            genotype_seed = settings.pop("genotype_seed", 0)
            folder = out / f"seed{seed}" / way.replace(", ", "_").replace(" ", "_")
            figures_file = folder / "figures.json"
            if not figures_file.exists():
                if data_module is None:
                    base = DetectionConfig.make(overrides=overrides, data=data, out=out, seed=seed)
                    data_module = open_data(base)
                    test = TestParts(data_module)
                assert test is not None
                config = DetectionConfig.make(
                    overrides=overrides, data=data, out=folder, seed=seed, **settings
                )
                folder.mkdir(parents=True, exist_ok=True)
                started = time.monotonic()
                run_data = replace(data_module, config=config, started=started)
                if settings["fusion"] == "random":
                    drawn = random_architecture(
                        run_data.pools, nodes=config.nodes, seed=100 * seed + genotype_seed
                    )
                    drawn.save(folder / "drawn.json")
                    config = config.model_copy(update={"fusion": str(folder / "drawn.json")})
                    run_data = replace(run_data, config=config)
                result = train(config, data=run_data)
                minutes = (time.monotonic() - started) / 60
                figures = test.figures(folder)
                row = {
                    "seed": seed,
                    "way": way,
                    "validation_ap": result.validation_ap,
                    "steps": json.loads((folder / "learning.json").read_text())["steps"],
                    "minutes_after_features": round(minutes, 3),
                    "image_auroc": figures["image"]["auroc"]["value"],
                    "pixel_ap": figures["pixel"]["ap"]["value"],
                    "aupro_0.3": figures["region"]["aupro"]["0.3"]["value"],
                    "aupro_0.05": figures["region"]["aupro"]["0.05"]["value"],
                    "genotype": result.genotype.summary() if result.genotype else None,
                    "head_pixel_ap_validation": _head_ap(folder),
                }
                figures_file.write_text(json.dumps(row, indent=2) + "\n")
            rows.append(json.loads(figures_file.read_text()))
            print(
                f"## {seed} {way}: "
                + ", ".join(f"{k} {v:.3f}" for k, v in rows[-1].items() if isinstance(v, float)),
                flush=True,
            )
        if data_module is not None:
            data_module.remove_stored()
        (out / "comparison.json").write_text(json.dumps(rows, indent=2) + "\n")


def _head_ap(folder: Path) -> float | None:
    rule = folder / "score_rule.json"
    return json.loads(rule.read_text())["pixel_ap"]["head"]["0.0"] if rule.exists() else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ways", default=",".join(w.replace(", ", "|") for w in WAYS))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    compare(
        arguments.data,
        arguments.out,
        [int(s) for s in arguments.seeds.split(",")],
        [w.replace("|", ", ") for w in arguments.ways.split(",")],
        arguments.overrides,
    )
