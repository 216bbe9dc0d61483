"""What each kind of evidence is worth: alone, and beside what a concatenation reads already.

python docs/results/scripts/evidence.py --data FOLDER --out RUN --seeds 0,1,2 \
    shots=40 image_size=128 rounds=4 train_epochs=15 rotate=false
python docs/results/scripts/evidence.py --data FOLDER --out RUN --seeds 0,1,2 --test ...
python docs/results/scripts/evidence.py --table RUN RUN --output docs/results/evidence

Features are stored once for a seed; every way then trains a concatenation on some of them, for
equally many steps. Figures are pixel APs on held-out normal parts with anomalies of generators
that neither evidence nor weights were trained with: choices are made on these. ``--test``, a second
call with the same arguments, adds figures of the test split, for the report alone. Figures that
exist are not computed again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from compare_fusions import TestParts
from record import machine
from torch import Tensor
from torch.nn import functional as F

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.layers.features import RELATIVE_DISTANCE, distances_from_normal
from chiasm.detection.opening import open_data
from chiasm.detection.train import train
from chiasm.detection.training.segment import mask_at
from chiasm.metrics.ranking import average_precision

CHANNELS = {  # of maps with several, in words
    "distance": ("distance", "relative distance"),
    "mapping_error": ("colours from geometry", "geometry from colours", "product"),
    "agreement": ("minimum", "product"),
    "fpfh_distance": ("distance", "relative distance"),
}
SKIPPED = ("raw", "f4", "f8", "f16")  # features are no scores


def ways(kinds: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the sets of evidence that are compared, by name."""
    further = [kind for kind in kinds if kind != "memory"]
    sets = {"memory": ("memory",)} | {f"memory + {k}": ("memory", k) for k in further}
    if len(further) > 1:
        sets["all"] = tuple(kinds)
    return sets


@torch.no_grad()
def alone(data: DetectionDataModule) -> dict[str, float]:
    """Compute the pixel AP of every score-like map of the held-out parts, on the object."""
    scores: dict[str, list[Tensor]] = {}
    masks: list[Tensor] = []
    side = data.config.image_size // 4
    size = torch.Size((side, side))
    for batch in data.loader("validate"):
        inside = F.adaptive_max_pool2d(batch.foreground, size) > 0
        masks.append((mask_at(batch, size) > 0)[inside])
        relative = distances_from_normal(batch.features)[RELATIVE_DISTANCE]
        maps = {
            "mean relative distance": F.interpolate(relative, size=tuple(size), mode="bilinear")
        }
        for name, value in batch.features.maps.items():
            short = name.split("/")[1]
            if short in SKIPPED:
                continue
            resized = F.interpolate(value, size=tuple(size), mode="bilinear")
            if short in ("residual_fine", "residual_coarse"):
                maps[f"{name}: length"] = resized.norm(dim=1, keepdim=True)
                continue
            labels = CHANNELS.get(short, ("",) * value.shape[1])
            for number, label in enumerate(labels):
                title = f"{name}: {label}" if label else name
                maps[title] = resized[:, number : number + 1]
        for name, value in maps.items():
            scores.setdefault(name, []).append(value[inside])
    mask = torch.cat(masks).numpy()
    return {
        name: average_precision(torch.cat(values).numpy(), mask) for name, values in scores.items()
    }


def measure(
    data: Path, out: Path, seeds: Sequence[int], overrides: Sequence[str], *, test: bool
) -> None:
    """Measure every way with every seed; figures that exist are kept."""
    for seed in seeds:
        base = DetectionConfig.make(
            overrides=overrides, data=data, out=out / f"seed{seed}", seed=seed
        )
        base.out.mkdir(parents=True, exist_ok=True)
        sets = ways(base.evidence)
        file = base.out / "evidence.json"
        figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        figures.setdefault("ways", {})
        missing = [w for w in sets if w not in figures["ways"]]
        if test:
            missing += [w for w in sets if "test" not in figures["ways"].get(w, {})]
        if not missing and "alone" in figures:
            continue
        module = open_data(base)
        if "alone" not in figures:
            figures["alone"] = alone(module)
            file.write_text(json.dumps(figures, indent=1) + "\n")
        parts = TestParts(module) if test else None
        for way in dict.fromkeys(missing):
            folder = base.out / way.replace(" ", "")
            fused = {"evidence": sets[way], "score_evidence": base.evidence}
            config = base.model_copy(update={**fused, "out": folder, "fusion": "concatenation"})
            folder.mkdir(exist_ok=True)
            row = figures["ways"].setdefault(way, {})
            if "validation_ap" not in row:
                result = train(config, data=replace(module, config=config))
                rule = json.loads((folder / "score_rule.json").read_text())
                learning = json.loads((folder / "learning.json").read_text())
                row |= {
                    "validation_ap": result.validation_ap,
                    "head_ap": rule["pixel_ap"]["head"]["0.0"],
                    "rules": {n: max(of.values()) for n, of in rule["pixel_ap"].items()},
                    "rule": rule["chosen"],
                    "steps": learning["steps"],
                    "macs": learning["macs"],
                }
            if parts is not None:
                found = parts.figures(folder)
                row["test"] = {
                    "image_auroc": found["image"]["auroc"]["value"],
                    "pixel_ap": found["pixel"]["ap"]["value"],
                    "aupro_0.05": found["region"]["aupro"]["0.05"]["value"],
                }
            print(f"## seed {seed}, {way}: {row}", flush=True)
            file.write_text(json.dumps(figures, indent=1) + "\n")
        module.remove_stored()
        facts = {
            "data": data.name,
            "seeds": list(seeds),
            "command": "python docs/results/scripts/evidence.py --data FOLDER --out RUN "
            + " ".join(["--seeds", ",".join(map(str, seeds)), *overrides]),
            "commit": _commit(),
            "machine": machine(),
        }
        (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
    return answer.stdout.decode().strip()


def _spread(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ({min(values):.3f}–{max(values):.3f})"


def table(runs: Sequence[Path], output: Path, notes: Mapping[str, str]) -> None:
    """Write the figures of some runs as JSON and as tables, each with its note."""
    lines = ["# Evidence: what each kind is worth", ""]
    lines += [(__doc__ or "").split("\n\n")[2], ""]
    lines += [
        "Mean and range over seeds. *head*: the head's log-odds alone; *rule*: with the score"
    ]
    lines += ["rule that was chosen; *gain*: of the head's AP over ``memory``, paired by seed.", ""]
    content = []
    for run in runs:
        facts = json.loads((run / "facts.json").read_text())
        rows = [
            json.loads(f.read_text())
            for s in facts["seeds"]
            if (f := run / f"seed{s}" / "evidence.json").exists()
        ]
        if run.name in notes:
            facts["note"] = notes[run.name]
        content.append({**facts, "figures": rows})
        lines += [f"## {facts['data']}", ""]
        lines += [f"`{facts['command']}`  ", f"commit {facts['commit']}, {facts['machine']}", ""]
        lines += [facts["note"], ""] if "note" in facts else []
        lines += ["| map alone | pixel AP |", "| --- | --- |"]
        means = {n: [row["alone"][n] for row in rows] for n in rows[0]["alone"]}
        order = sorted(means, key=lambda n: -sum(means[n]))
        lines += [f"| {name} | {_spread(means[name])} |" for name in order]
        tested = all("test" in w for row in rows for w in row["ways"].values())
        heads = ["concatenation reads", "head", "gain", "rule", "MMACs"]
        heads += ["test: image AUROC", "pixel AP", "AUPRO(0.05)"] if tested else []
        lines += ["", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
        for way in rows[0]["ways"]:
            own = [row["ways"][way] for row in rows]
            gains = [w["head_ap"] - row["ways"]["memory"]["head_ap"] for w, row in zip(own, rows)]
            cells = [
                way,
                _spread([w["head_ap"] for w in own]),
                _spread(gains),
                _spread([w["validation_ap"] for w in own]),
                f"{own[0]['macs'] / 1e6:.0f}",
            ]
            if tested:
                names = ("image_auroc", "pixel_ap", "aupro_0.05")
                cells += [_spread([w["test"][name] for w in own]) for name in names]
            lines.append(f"| {' | '.join(cells)} |")
        ruled = [row["ways"] for row in rows if "rules" in row["ways"]["memory"]]
        if ruled:
            names = list(ruled[0]["memory"]["rules"])
            lines += [
                "",
                f"Best score rule of a head with each map beside it, {len(ruled)} seeds:",
                "",
            ]
            lines += [
                f"| concatenation reads | {' | '.join(names)} |",
                "| --- |" + " --- |" * len(names),
            ]
            for way in (w for w in ruled[0] if all("rules" in r[w] for r in ruled)):
                cells = [_spread([r[way]["rules"][n] for r in ruled]) for n in names]
                lines.append(f"| {way} | {' | '.join(cells)} |")
        lines.append("")
    output.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    output.with_suffix(".md").write_text("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--table", type=Path, nargs="+")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--note", action="append", default=[], help="RUN's folder name: a remark")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    if given.table:
        notes = dict(note.split(": ", 1) for note in given.note)
        table(given.table, given.output, notes)
        sys.exit()
    measure(
        given.data,
        given.out,
        [int(s) for s in given.seeds.split(",")],
        given.overrides,
        test=given.test,
    )
