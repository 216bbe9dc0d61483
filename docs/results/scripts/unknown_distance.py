"""Leave each class out in turn, and measure how well the library's distance tells it.

The distance depends on the recordings of training alone, not on the classifier: recordings are
described once, and divided as a run divides them. Limits are quantiles over all validation
recordings; a run takes its right diagnoses alone. Nothing is chosen here.

    python docs/results/scripts/unknown_distance.py --data FIELD/recordings.csv --cache CACHE \
        --name "field, seed 81" --json docs/results/unknown_faults.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import DiagnosisDataModule, division, open_data
from chiasm.diagnosis.preparation.recording_statistics import (
    recording_statistics,
    statistics_parts,
)
from chiasm.diagnosis.training.known_classes import MOST, _evenly, fit_known_classes
from chiasm.metrics.bootstrap import auroc_interval
from chiasm.metrics.ranking import auroc

SHARES = (0.05, 0.1, 0.2)
LEFT_OUT = ("corona", "surface", "void", "floating", "particle")


def described(data: DiagnosisDataModule, modality: str) -> dict[str, NDArray[np.float64]]:
    """Return the statistics of every labelled recording, by its source."""
    refs = [ref for ref in data.store.refs if ref.label is not None]
    return {
        ref.source: recording_statistics(data.store.load(ref), data.form, modality) for ref in refs
    }


def measured(
    data: DiagnosisDataModule, rows: dict[str, NDArray[np.float64]], kind: str, seed: int
) -> dict[str, Any]:
    """Return the figures of both rules with one class left out."""
    config = data.config.model_copy(update={"left_out": (kind,), "seed": seed})
    refs = [ref for ref in data.store.refs if ref.label is not None]
    split = division(data.store, refs, config)
    training = _evenly(split.train, MOST)
    test = [ref for ref in split.test if ref.kind != kind]  # a division keeps it for evaluation
    unknown = [ref for ref in refs if ref.kind == kind]
    fit = np.stack([rows[ref.source] for ref in training])
    labels = np.array([ref.label for ref in training])
    groups = [ref.group["session"] for ref in training]
    modality = config.modalities[0]
    rule = fit_known_classes(
        fit, labels, data.store.kinds, groups, statistics_parts(modality, fit.shape[1])
    )
    unseen = np.repeat([0, 1], [len(test), len(unknown)])
    scored = [*test, *unknown]
    row: dict[str, Any] = {
        "left_out": kind,
        "seed": seed,
        "known": len(test),
        "unknown": len(unknown),
    }
    for name, one in (("distance", rule), ("earlier", replace(rule, mixtures=None))):
        values, held_out = (
            one.distances(np.stack([rows[ref.source] for ref in some])).min(axis=1)
            for some in (scored, split.validation)
        )
        interval = auroc_interval(
            values, unseen, groups=[ref.group["session"] for ref in scored], draws=1000
        )
        row[name] = {
            "auroc": round(auroc(values, unseen), 4),
            "interval": [round(float(x), 4) for x in interval],
        }
        for share in SHARES:
            beyond = values > np.quantile(held_out, 1 - share)
            row[name][f"at_{share:g}"] = {
                "false_unknown": round(float(beyond[unseen == 0].mean()), 4),
                "found": round(float(beyond[unseen == 1].mean()), 4),
            }
    return row


def main() -> None:
    """Write the figures of every class and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--modalities", default="series,image")
    parser.add_argument("--name", required=True, help="of the data")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    result: dict[str, Any] = {"data": options.name, "commit": commit}
    for modality in options.modalities.split(","):
        config = DiagnosisConfig.make(
            data=Path(options.data),
            out=Path(options.cache) / "unused",
            model="excess_trees",
            modalities=(modality,),
            shares=(0.5, 0.2, 0.3),
            cache=Path(options.cache),
        )
        data = open_data(config)
        rows = described(data, modality)
        result[modality] = []
        for seed in map(int, options.seeds.split(",")):
            for kind in LEFT_OUT:
                row = measured(data, rows, kind, seed)
                result[modality].append(row)
                both = [row[name]["auroc"] for name in ("distance", "earlier")]
                print(modality, kind, seed, *both, flush=True)
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
