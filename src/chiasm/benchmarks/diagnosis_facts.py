"""What tables show of a classifier beside its metrics: operations, learning, separation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.errors import ConfigurationError

FACTS = "facts.json"
SHARES = tuple(range(10, 101, 10))
# Above so many recordings, distances of all to all take longer than they are worth.
_MOST_COMPARED = 1000


def write_classifier_facts(run: Path, report: Path) -> None:
    """Write ``facts.json`` beside the metrics of a run.

    ``gflops`` (paper's and true count; absent where a method is no network), ``learning``: what
    the second stage logged, by shares of its epochs in per cent, ``restless``: mean change of the
    validation macro-F1 from one epoch to the next, ``contrast`` of the first stage's best epoch,
    ``silhouette`` of classes before and after the flows, ``called``: shares of each true class.
    """
    from chiasm.diagnosis.report.curves import read_learning
    from chiasm.diagnosis.report.predictions import PREDICTIONS, read_predictions

    metrics = json.loads((report / "metrics.json").read_text())
    scored = read_predictions(report / PREDICTIONS)
    logged = read_learning(run)
    facts: dict[str, Any] = {
        "cost": metrics["cost"]
        | {"million_weights": round(metrics["cost"]["parameters"] / 1e6, 4)},
        "gflops": _work(run),
        "learning": {name: _by_share(values) for name, values in logged.items()},
        "called": _called(metrics["confusion"], scored.kinds),
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
    (report / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def read_classifier_facts(report: Path) -> dict[str, Any]:
    """What was written, to stand among the metrics."""
    found: dict[str, Any] = json.loads((report / FACTS).read_text())
    return found


def _work(run: Path) -> dict[str, float]:
    from chiasm.diagnosis.classifier import FittedClassifier
    from chiasm.diagnosis.models.cost import flops
    from chiasm.diagnosis.predictor import DiagnosisPredictor

    network = DiagnosisPredictor.load(run).network
    if isinstance(network, FittedClassifier):
        return {}
    try:
        paper, true = flops(network, "paper"), flops(network, "true")
    except (ConfigurationError, NotImplementedError, RuntimeError):
        return {}  # one of its members is no network, whose operations cannot be counted
    return {"paper": round(paper / 1e9, 4), "true": round(true / 1e9, 4)}


def _by_share(values: tuple[tuple[float, float], ...]) -> dict[str, float]:
    epochs, figures = zip(*values)
    at = np.interp(np.array(SHARES) / 100 * max(epochs), epochs, figures)
    return {str(share): round(float(value), 5) for share, value in zip(SHARES, at)}


def _called(confusion: list[list[int]], kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """True class to the class that it was called, shares of the true class."""
    return {
        own: {
            other: round(count / sum(row), 5) if sum(row) else 0.0
            for other, count in zip(kinds, row)
        }
        for own, row in zip(kinds, confusion)
    }


def _silhouette(clouds: Mapping[str, np.ndarray], labels: np.ndarray) -> float | None:
    """Silhouette of the classes over the means of all modalities' tokens, each at deviation 1."""
    from sklearn.metrics import silhouette_score

    if not clouds:
        return None
    rows = np.concatenate([_unit(cloud.astype(np.float64)) for cloud in clouds.values()], axis=1)
    whole = np.isfinite(rows).all(axis=1)
    rows, own = rows[whole], labels[whole]
    if not 1 < len(set(own.tolist())) < len(own):
        return None
    size = min(len(rows), _MOST_COMPARED)
    return round(float(silhouette_score(rows, own, sample_size=size, random_state=0)), 5)


def _unit(cloud: np.ndarray) -> np.ndarray:
    return np.asarray(cloud / (cloud.std() or 1.0))
