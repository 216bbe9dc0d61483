"""Compare variants of the classifier on one split: one or both sensors, one or both stages ...

chiasm data make hard --recordings 2000 --sessions 500 --tier hard
python docs/results/scripts/compare_classifiers.py --data hard --name discharge_hard \
    --out runs/hard --seeds 42,43,44 --ways both,image,series,classes minutes=6

Every (way, seed) is a run below OUT that resumes; the table is written to docs/results/NAME.md.
The seed decides weights, views and split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, machine

import chiasm
from chiasm.diagnosis.config import DiagnosisConfig

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
    """Return the figures of the table."""
    recording = metrics["recording"]
    gap = metrics["gap"]
    return {
        "macro_f1": recording["macro_f1"],
        "auroc": recording["auroc"],
        "kinds": {name: kind["f1"]["value"] for name, kind in metrics["kinds"].items()},
        "missing": {name: figure["value"] for name, figure in metrics["missing"].items()},
        "confusion": metrics["confusion"],
        "trivial": metrics["trivial"],
        "gap": gap,
        "cost": metrics["cost"],
    }


def run(way: str, seed: int, data: Path, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Train and evaluate one variant, unless its figures exist."""
    figures_file = folder / "figures.json"
    if not figures_file.exists():
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
        chiasm.train(config)
        metrics = chiasm.evaluate(folder, data=data, most_corrupted=0)
        entry = {"way": way, "seed": seed, **figures(metrics)}
        figures_file.write_text(json.dumps(entry, indent=1) + "\n")
    result: dict[str, Any] = json.loads(figures_file.read_text())
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
        way_rows = [row for row in rows if row["way"] == way]
        f1 = [row["macro_f1"]["value"] for row in way_rows]
        cells = [f"{np.mean(f1):.3f} ({min(f1):.3f}–{max(f1):.3f})"]
        low = min(row["macro_f1"]["low"] for row in way_rows)
        high = max(row["macro_f1"]["high"] for row in way_rows)
        cells.append(f"{low:.3f}–{high:.3f}")
        for absent in ("picture absent", "series absent"):
            values = [row["missing"][absent] for row in way_rows if absent in row["missing"]]
            cells.append(f"{np.mean(values):.3f}" if values else "–")
        cells += [f"{np.mean([row['kinds'][k] for row in way_rows]):.3f}" for k in kinds]
        seeds = ", ".join(str(row["seed"]) for row in way_rows)
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
    arguments = parser.parse_args()
    ways = arguments.ways.split(",")
    done = []
    for seed in (int(s) for s in arguments.seeds.split(",")):
        for way in ways:
            row = run(
                way, seed, arguments.data, arguments.out / f"{way}_{seed}", arguments.overrides
            )
            done.append(row)
            f1 = row["macro_f1"]["value"]
            print(f"## {way} {seed}: {f1:.3f} {row['missing']}", flush=True)
            command = (
                f"{arguments.made + ' && ' if arguments.made else ''}python docs/results/scripts/"
                f"compare_classifiers.py --data {arguments.data} --out {arguments.out} "
                f"--name {arguments.name} "
                f"--seeds {arguments.seeds} --ways {arguments.ways} "
                # The place of the cache does not belong to the command.
                f"{' '.join(o for o in arguments.overrides if not o.startswith('cache='))}"
            )
            tabulate(done, arguments.name, command.strip(), arguments.words)
