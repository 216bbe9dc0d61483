"""Figures of a classifier that tables show beside its metrics: operations, training, separation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.errors import ConfigurationError

FACTS = "facts.json"
SHARES = tuple(range(10, 101, 10))
_MAX_SILHOUETTE = 1000  # recordings; pairwise distances of more take too long


def write_classifier_facts(run: Path, report: Path) -> None:
    """Write ``facts.json`` beside the metrics of a run.

    Its keys: ``gflops`` (the paper's and the true count; absent for methods that are no network);
    ``learning``, the log of the second stage by per cent of its epochs; ``restless``, the mean
    change of the validation macro-F1 between epochs; ``contrast`` of the first stage's best epoch,
    and ``contrast_share``, where that lies between its floor (0) and chance (1);
    ``silhouette`` of the classes before and after the flows; ``called``, the shares of each true
    class that were predicted as each class.
    """
    from chiasm.diagnosis.report.curves import read_learning
    from chiasm.diagnosis.report.predictions import PREDICTIONS, read_predictions

    metrics = json.loads((report / "metrics.json").read_text())
    scored = read_predictions(report / PREDICTIONS)
    logged = read_learning(run)
    facts: dict[str, Any] = {
        "cost": metrics["cost"]
        | {"million_weights": round(metrics["cost"]["parameters"] / 1e6, 4)},
        "gflops": _operations(run),
        "learning": {name: _by_share(values) for name, values in logged.items()},
        "called": _prediction_shares(metrics["confusion"], scored.kinds),
        "silhouette": {
            "before": _silhouette(scored.before, scored.labels),
            "after": _silhouette(scored.after, scored.labels),
        },
    }
    f1 = [value for _, value in logged.get("validation_f1", ())]
    if len(f1) > 1:
        facts["restless"] = round(float(np.abs(np.diff(f1)).mean()), 5)
    if logged.get("validation_contrast"):
        facts["contrast"] = round(min(v for _, v in logged["validation_contrast"]), 5)
    if shares := [v for _, v in logged.get("validation_contrast_share", ()) if not np.isnan(v)]:
        facts["contrast_share"] = round(min(shares), 5)
    (report / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def read_classifier_facts(report: Path) -> dict[str, Any]:
    """Read ``facts.json``."""
    facts: dict[str, Any] = json.loads((report / FACTS).read_text())
    return facts


def _operations(run: Path) -> dict[str, float]:
    from chiasm.diagnosis.models.cost import flops
    from chiasm.diagnosis.predictor import DiagnosisPredictor

    network = DiagnosisPredictor.load(run, device="cpu").network
    if network.training_procedure == "fit":
        return {}
    try:
        paper, true = flops(network, "paper"), flops(network, "true")
    except (ConfigurationError, NotImplementedError, RuntimeError):
        return {}  # operations of a member that is no network cannot be counted
    return {"paper": round(paper / 1e9, 4), "true": round(true / 1e9, 4)}


def _by_share(values: tuple[tuple[float, float], ...]) -> dict[str, float]:
    epochs, figures = zip(*values)
    resampled = np.interp(np.array(SHARES) / 100 * max(epochs), epochs, figures)
    return {str(share): round(float(value), 5) for share, value in zip(SHARES, resampled)}


def _prediction_shares(
    confusion: list[list[int]], kinds: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return true class to predicted class to share of the true class."""
    return {
        true: {
            predicted: round(count / sum(row), 5) if sum(row) else 0.0
            for predicted, count in zip(kinds, row)
        }
        for true, row in zip(kinds, confusion)
    }


def _silhouette(clouds: Mapping[str, np.ndarray], labels: np.ndarray) -> float | None:
    """Return the silhouette of the classes over the modalities' mean tokens, at deviation 1."""
    from sklearn.metrics import silhouette_score

    if not clouds:
        return None
    rows = np.concatenate([_unit(cloud.astype(np.float64)) for cloud in clouds.values()], axis=1)
    complete = np.isfinite(rows).all(axis=1)
    rows, labels = rows[complete], labels[complete]
    if not 1 < len(set(labels.tolist())) < len(labels):
        return None
    size = min(len(rows), _MAX_SILHOUETTE)
    return round(float(silhouette_score(rows, labels, sample_size=size, random_state=0)), 5)


def _unit(cloud: np.ndarray) -> np.ndarray:
    return np.asarray(cloud / (cloud.std() or 1.0))
