"""Variants of the classifier on one split: both sensors, one alone, without the first stage ...

chiasm data make hard --recordings 2000 --sessions 500 --tier hard
python docs/results/scripts/compare_classifiers.py --data hard --name discharge_hard \
    --out runs/hard --seeds 42,43,44 --ways both,image,series,classes minutes=6

Every (way, seed) is a run below OUT that resumes; the table goes to docs/results/NAME.md.
The seed is that of weights, views and split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, machine

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.evaluate import evaluate as evaluate_diagnosis
from chiasm.diagnosis.train import train as train_diagnosis

PRETRAIN, EPOCHS = 3, 20
# Cross-entropy alone gets the time of both stages; a contrast epoch costs two views.
WAYS: dict[str, dict[str, Any]] = {
    "both": {},
    "image": {"modalities": ("image",)},
    "series": {"modalities": ("series",)},
    "classes": {"pretrain_epochs": 0, "epochs": EPOCHS + 2 * PRETRAIN},
    "identity": {"flow": "identity"},
    "likelihood": {"flow_weight": 0.01},
    "no_dropout": {"modality_dropout": 0.0},
}
NAMES = {
    "both": "both sensors, two stages",
    "image": "image only",
    "series": "series only",
    "classes": "both, cross-entropy only (equal compute)",
    "identity": "both, without flows",
    "likelihood": "both, likelihood of the flows at 0.01",
    "no_dropout": "both, no modality dropout",
}


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the table shows."""
    recording = metrics["recording"]
    gap = metrics["gap"]
    return {
        "macro_f1": recording["macro_f1"],
        "auroc": recording["auroc"],
        "kinds": {name: one["f1"]["value"] for name, one in metrics["kinds"].items()},
        "missing": {n: one["value"] for n, one in metrics["missing"].items()},
        "confusion": metrics["confusion"],
        "trivial": metrics["trivial"],
        "gap": gap,
        "cost": metrics["cost"],
    }


def run(way: str, seed: int, data: Path, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Train and judge one variant, unless that has been done."""
    found = folder / "figures.json"
    if not found.exists():
        base = {
            "preset": "quick",
            "shares": (0.6, 0.1, 0.3),
            "pretrain_epochs": PRETRAIN,
            "epochs": EPOCHS,
            "patience": 100,
        }
        config = DiagnosisConfig.make(
            overrides=overrides, data=data, out=folder, seed=seed, **(base | WAYS[way])
        )
        train_diagnosis(config)
        metrics = evaluate_diagnosis(folder, data=data, most_corrupted=0)
        entry = {"way": way, "seed": seed, **figures(metrics)}
        found.write_text(json.dumps(entry, indent=1) + "\n")
    result: dict[str, Any] = json.loads(found.read_text())
    return result


def tabulate(rows: list[dict[str, Any]], name: str, command: str, words: str) -> None:
    """Write ``NAME.json`` and ``NAME.md``: the mean over seeds, and the range."""
    kinds = list(rows[0]["kinds"])
    lines = [
        "| variant | seeds | macro-F1 | 95 % intervals | picture absent | series absent | "
        + " | ".join(kinds)
        + " |",
        "| --- | --- | --- | --- | --- | --- |" + " --- |" * len(kinds),
    ]
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        f1 = [row["macro_f1"]["value"] for row in own]
        cells = [f"{np.mean(f1):.3f} ({min(f1):.3f}–{max(f1):.3f})"]
        low = min(row["macro_f1"]["low"] for row in own)
        high = max(row["macro_f1"]["high"] for row in own)
        cells.append(f"{low:.3f}–{high:.3f}")
        for absent in ("picture absent", "series absent"):
            values = [row["missing"][absent] for row in own if absent in row["missing"]]
            cells.append(f"{np.mean(values):.3f}" if values else "–")
        cells += [f"{np.mean([row['kinds'][k] for row in own]):.3f}" for k in kinds]
        seeds = ", ".join(str(row["seed"]) for row in own)
        lines.append(f"| {NAMES[way]} | {seeds} | " + " | ".join(cells) + " |")
    git = ["git", "-C", str(RESULTS), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True)
    entry = {
        "command": command,
        "commit": commit.stdout.decode().strip(),
        "machine": machine(),
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")
    head = f"# {name}\n\n{words}\n\n`{command}`, commit {entry['commit']}, {machine()}.\n\n"
    tail = "\nF1 of each class at the right. Ranges are over seeds, intervals over sessions.\n"
    (RESULTS / f"{name}.md").write_text(head + "\n".join(lines) + "\n" + tail)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seeds", default="42,43,44,45,46")
    parser.add_argument("--ways", default="both,image,series,classes")
    parser.add_argument("--words", default="Simulated recordings prove software, not the field.")
    parser.add_argument("--made", default="", help="command that made the data")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    ways = given.ways.split(",")
    done = []
    for seed in (int(s) for s in given.seeds.split(",")):
        for way in ways:
            row = run(way, seed, given.data, given.out / f"{way}_{seed}", given.overrides)
            done.append(row)
            f1 = row["macro_f1"]["value"]
            print(f"## {way} {seed}: {f1:.3f} {row['missing']}", flush=True)
            said = (
                f"{given.made + ' && ' if given.made else ''}python docs/results/scripts/"
                f"compare_classifiers.py --data {given.data} --out {given.out} --name {given.name} "
                f"--seeds {given.seeds} --ways {given.ways} "
                # Where a store is kept is the machine's own business.
                f"{' '.join(o for o in given.overrides if not o.startswith('cache='))}"
            )
            tabulate(done, given.name, said.strip(), given.words)
