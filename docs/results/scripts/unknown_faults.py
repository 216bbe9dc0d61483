"""Leave each class out of training in turn, and compare rules that tell it as unknown.

The network's embedding and logits are those of the run; the statistics need no model. Every rule is
fitted to training recordings, and scored on the run's test list against all recordings of the
class that was left out. Nothing is chosen here: the library's rule was chosen on other recordings.

    python docs/results/scripts/unknown_faults.py --data FIELD --out RUNS --models excess_trees \
        --left-out void,floating,particle --seed 42 --json docs/results/unknown_faults.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import open_data
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.preparation.recording_statistics import recording_statistics
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.scoring import score_recordings
from chiasm.diagnosis.train import train
from chiasm.diagnosis.training.known_classes import _evenly
from chiasm.diagnosis.unseen import evaluation_split
from chiasm.metrics.bootstrap import auroc_interval
from chiasm.metrics.classification import macro_f1
from chiasm.metrics.open_set import energy_score, knn_score, max_softmax_score
from chiasm.metrics.ranking import auroc

Array = NDArray[np.float64]
FITTED_ON = 700  # training recordings of the rules on embeddings
WIDEST = 128  # of an embedding whose covariance is estimated; wider ones are projected first
QUICK = {"pretrain_epochs": 6, "epochs": 15}  # of networks


def lengths(fit: Array, labels: NDArray[Any], rows: Array) -> Array:
    """Return squared Mahalanobis lengths ``(N, K)`` with one covariance of all classes."""
    kinds = np.unique(labels)
    means = np.stack([fit[labels == kind].mean(axis=0) for kind in kinds])
    within = fit - means[np.searchsorted(kinds, labels)]
    covariance = LedoitWolf(assume_centered=True).fit(within).covariance_
    mapping = np.linalg.inv(np.linalg.cholesky(covariance + 1e-3 * np.eye(fit.shape[1])))
    out: Array = np.square((rows[:, None] - means[None]) @ mapping.T).sum(axis=2)
    return out


def on_space(fit: Array, labels: NDArray[Any], rows: Array, logits: Array) -> dict[str, Array]:
    """Return the scores of rules on one space of features; larger is less known."""
    spread = np.where(fit.std(axis=0) > 1e-6, fit.std(axis=0), 1.0)
    centre = fit.mean(axis=0)
    fit, rows = ((x - centre).clip(-10 * spread, 10 * spread) / spread for x in (fit, rows))
    if fit.shape[1] > WIDEST:
        axes = PCA(WIDEST, random_state=0).fit(fit)
        fit, rows = axes.transform(fit), axes.transform(rows)
    by_class = lengths(fit, labels, rows)
    background = lengths(fit, np.zeros_like(labels), rows)
    main = PCA(min(32, fit.shape[1] // 2), random_state=0).fit(fit)
    residual = np.linalg.norm(rows - main.inverse_transform(main.transform(rows)), axis=1)
    return {
        "Mahalanobis": by_class.min(axis=1),
        "relative Mahalanobis": (by_class - background).min(axis=1),
        "kNN, cosine": knn_score(rows, fit, neighbours=10),
        "residual subspace": residual,
        "ViM": residual / residual.mean() * np.abs(logits).max(axis=1).mean()
        + energy_score(logits),
    }


def one_run(model: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train without a class, unless that is done, and score every rule."""
    out = Path(options.out) / f"{model}_{kind}_{options.seed}"
    settings: dict[str, Any] = {
        "data": Path(options.data),
        "out": out,
        "model": model,
        "modalities": ("series",),
        "shares": tuple(float(share) for share in options.shares.split(",")),
        "left_out": (kind,),
        "seed": options.seed,
        "cache": Path(options.cache),
        "unknown_share": options.share,
    }
    if model.endswith("_small"):
        settings |= {"preset": "quick", **QUICK}
    config = DiagnosisConfig.make(**settings)
    started = time.process_time()
    data = open_data(config)
    if not (out / "learning.json").exists():
        train(config, data=data)
    minutes = (time.process_time() - started) / 60
    predictor = DiagnosisPredictor.load(out, device="cpu")
    contract, store = predictor.contract, data.store
    split = evaluation_split(out, contract, store, config.data)
    known = score_recordings(predictor, store, split.test)
    unknown = score_recordings(predictor, store, [_unlabelled(ref) for ref in split.unknown])
    training = _evenly(split.train, FITTED_ON)
    fitted = score_recordings(predictor, store, training, single=False)
    unseen = np.repeat([0, 1], [len(known), len(unknown)])
    groups = np.concatenate([known.groups["session"], unknown.groups["session"]])
    logits = np.concatenate([known.logits, unknown.logits])
    scores = {
        "max-softmax": max_softmax_score(logits),
        "energy": energy_score(logits),
        "distance (the library's)": np.concatenate([known.distance, unknown.distance]),
    }
    spaces = {
        "embedding": (
            fitted.embeddings,
            np.concatenate([known.embeddings, unknown.embeddings]),
        )
    }
    if options.statistics:
        described = [
            np.stack(
                [
                    recording_statistics(store.load(ref), contract.recording, "series")
                    for ref in refs
                ]
            )
            for refs in (training, [*split.test, *split.unknown])
        ]
        spaces["statistics"] = (described[0], described[1])
    for space, (fit, rows) in spaces.items():
        found = on_space(fit, fitted.labels, rows, logits)
        scores |= {f"{rule} of the {space}": values for rule, values in found.items()}
    return {
        "model": model,
        "left_out": kind,
        "seed": options.seed,
        "macro_f1": round(macro_f1(known.labels, known.guesses, len(known.kinds)), 4),
        "known": len(known),
        "unknown": len(unknown),
        "sessions": [len(set(part.groups["session"])) for part in (known, unknown)],
        "found": round(float(unknown.unknown.mean()), 4),
        "false_unknown": round(float(known.unknown.mean()), 4),
        "cpu_minutes": round(minutes, 2),
        "auroc": {
            rule: {
                "value": round(auroc(values, unseen), 4),
                "interval": [
                    round(float(x), 4)
                    for x in auroc_interval(values, unseen, groups=groups, draws=200)
                ],
            }
            for rule, values in scores.items()
        },
    }


def _unlabelled(ref: RecordingRef) -> RecordingRef:
    return replace(ref, label=0)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown: rules down, models and classes that were left out across."""
    heads = [f"{r['model']}, {r['left_out']}" for r in rows]
    rules = list(dict.fromkeys(rule for row in rows for rule in row["auroc"]))

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(row: dict[str, Any], rule: str) -> str:
        found = row["auroc"].get(rule)
        if found is None:
            return "–"
        low, high = found["interval"]
        return f"{found['value']:.3f} ({low:.2f} to {high:.2f})"

    lines = [line(["rule", *heads]), line(["---"] * (len(heads) + 1))]
    lines += [line([rule, *(cell(row, rule) for row in rows)]) for rule in rules]
    facts = {
        "found at the limit": lambda r: f"{r['found']:.1%}",
        "known ones called unknown": lambda r: f"{r['false_unknown']:.1%}",
        "macro-F1 of the known classes": lambda r: f"{r['macro_f1']:.3f}",
        "recordings, known and unknown": lambda r: f"{r['known']}, {r['unknown']}",
        "sessions, known and unknown": lambda r: f"{r['sessions'][0]}, {r['sessions'][1]}",
        "CPU minutes of the training": lambda r: f"{r['cpu_minutes']:.1f}",
    }
    lines += [line([name, *(fact(row) for row in rows)]) for name, fact in facts.items()]
    return "\n".join(lines)


def main() -> None:
    """Write the figures of every model and class that was left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--models", default="excess_trees,minirocket,mad_small")
    parser.add_argument("--left-out", default="void,floating,particle")
    parser.add_argument("--shares", default="0.5,0.2,0.3")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--statistics", action="store_true")
    parser.add_argument("--name", required=True, help="of the data, in the table")
    parser.add_argument("--json", required=True)
    parser.add_argument("--table", action="store_true", help="only print the tables of the file")
    options = parser.parse_args()
    if options.table:
        rows = json.loads(Path(options.json).read_text())["rows"]
        for name in dict.fromkeys(row["data"] for row in rows):
            print(f"### {name}\n\n{table([row for row in rows if row['data'] == name])}\n")
        return
    path = Path(options.json)
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for model in options.models.split(","):
        for kind in options.left_out.split(","):
            row = {"data": options.name, "commit": commit, **one_run(model, kind, options)}
            rows = [
                r
                for r in rows
                if any(r[k] != row[k] for k in ("data", "model", "left_out", "seed"))
            ]
            rows.append(row)
            path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
            print(
                model, kind, row["macro_f1"], row["auroc"]["distance (the library's)"], flush=True
            )


if __name__ == "__main__":
    main()
