"""Compare rules that turn a map into its part's score, on the same maps of one trained model.

python docs/results/scripts/compare_image_scores.py RUN --data FOLDER --name flange \
    --commit ID --command "chiasm train ..."

The rule is chosen on the run's held-out normals as image_score=chosen does; the test parts are only
reported. Writes image_scores_NAME.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, machine

from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.image_score import ImageScoreRule, Term, map_statistics
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.splits import divide_for_search, make_splits, owners_of
from chiasm.detection.score_rule import COMMON, choose_image_rule, measure_parts
from chiasm.metrics.bootstrap import auroc_interval, paired_group_bootstrap
from chiasm.metrics.ranking import auroc


def rule_of(record: dict[str, Any]) -> ImageScoreRule:
    """Return a rule from its JSON values."""
    terms = tuple(Term(**term) for term in record["terms"])
    return ImageScoreRule(**{**record, "terms": terms})


def choose(run: Path, data: Path, predictor: DetectionPredictor) -> dict[str, Any]:
    """Choose the rule on the parts that chose the run's score rule."""
    config = DetectionConfig.make(file=run / "config.yaml")
    source = open_source(data, lamp=config.lamp)
    split = make_splits(
        source, shots=config.shots, calibration_share=config.calibration_share, seed=config.seed
    )
    groups = [ref.group for ref in split.train]
    chosen = sorted(divide_for_search(groups, config.search.held_out, seed=config.seed).selection)
    owners = [owners_of(groups)[i] for i in chosen]
    contract, cache = predictor.contract, PreparationCache()
    measured = measure_parts(
        predictor.detector,
        [cache.get(source, split.train[i], contract.preparation) for i in chosen],
        owners=owners,
        scale=contract.geometry,
        modalities=contract.modalities,
        seed=config.seed,
    )
    assert measured is not None
    statistics, labels, positions = measured
    return choose_image_rule(
        statistics,
        labels,
        groups=np.array([owners[position] for position in positions]),
        link=predictor.detector.map_link,
        seed=config.seed,
    ).figures | {"parts": "held out"}


@torch.no_grad()
def compare(run: Path, data: Path) -> dict[str, Any]:
    """Score the test parts by every candidate rule."""
    predictor = DetectionPredictor.load(run)
    choice = choose(run, data, predictor)
    rules = {name: rule_of(entry["rule"]) for name, entry in choice["rules"].items()}
    terms = [term for rule in rules.values() for term in rule.terms]
    contract, detector = predictor.contract, predictor.detector
    source, cache = open_source(data), PreparationCache()
    scores: dict[str, list[float]] = {name: [] for name in rules}
    labels = []
    for ref in source.refs:
        if ref.split != "test":
            continue
        part = cache.get(source, ref, contract.preparation)
        batch = to_batch([part], contract.geometry, modalities=contract.modalities)
        statistics = map_statistics(
            detector.scores(detector(batch), batch.foreground),
            batch.foreground,
            terms=terms,
            background=True,
            operations=detector.maps,
        )
        labels.append(part.label)
        for name, rule in rules.items():
            scores[name].append(float(statistics.score(rule)[0]))
    truth = np.array(labels)
    values = {name: np.array(found) for name, found in scores.items()}

    def figure(name: str) -> Any:
        return lambda numbers: auroc(values[name][numbers], truth[numbers])

    rows = {}
    for name, entry in choice["rules"].items():
        gain = paired_group_bootstrap(
            figure(name), figure(COMMON), np.arange(len(truth)), stratify=truth, draws=2000
        )
        rows[name] = {
            "validation_auroc": entry["auroc"],
            "validation_gain": entry.get("gain"),
            "validation_p_value": entry.get("p_value"),
            "test_auroc": auroc(values[name], truth),
            "test_interval": auroc_interval(values[name], truth),
            "test_gain": list(gain[:3]),
        }
    return {
        "chosen": choice["chosen"],
        "chosen_on": {key: choice[key] for key in ("parts", "good", "anomalous")},
        "test_parts": {"good": int((truth == 0).sum()), "defective": int(truth.sum())},
        "rules": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result = {
        "command": arguments.command,
        "commit": arguments.commit,
        "machine": machine(),
        **compare(arguments.run, arguments.data),
    }
    path = arguments.out / f"image_scores_{arguments.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in result["rules"].items():
        figures = (row["validation_auroc"], row["test_auroc"], row["test_gain"][0])
        print(f"{name:28s}" + "".join(f"{figure:8.3f}" for figure in figures))
    print("chosen:", result["chosen"])
