"""Tabulate the finished runs of a comparison of fusions.

python docs/results/scripts/tabulate_fusions.py runs/compare --name fusions_flange \
    --command "python docs/results/scripts/compare_fusions.py ..." --commit abc1234
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, machine

FIGURES = ("image_auroc", "pixel_ap", "aupro_0.3", "aupro_0.05", "validation_ap", "steps")


def tabulate(folder: Path, name: str, command: str, commit: str) -> None:
    """Write ``NAME.json`` and ``NAME.md``: mean and range over seeds of every way."""
    rows = [json.loads(p.read_text()) for p in sorted(folder.glob("seed*/*/figures.json"))]
    ways: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        ways.setdefault(row["way"], []).append(row)
    lines = [
        "| way to fuse | seeds | " + " | ".join(f.replace("_", " ") for f in FIGURES) + " |",
        "| --- | --- |" + " --- |" * len(FIGURES),
    ]
    for way, way_rows in sorted(
        ways.items(), key=lambda kv: -np.mean([r["pixel_ap"] for r in kv[1]])
    ):
        cells = []
        for figure in FIGURES:
            # Runs of earlier versions did not record their steps.
            values = [r[figure] for r in way_rows if figure in r]
            if not values:
                cells.append("–")
                continue
            text = f"{np.mean(values):.3f}"
            if len(values) > 1:
                text += f" ({min(values):.3f}–{max(values):.3f})"
            cells.append(text)
        seeds = ", ".join(str(r["seed"]) for r in sorted(way_rows, key=lambda r: r["seed"]))
        lines.append(f"| {way} | {seeds} | " + " | ".join(cells) + " |")
    entry = {"command": command, "commit": commit, "machine": machine(), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(
        f"# {name}\n\n`{command}`, commit {commit}, {machine()}.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--command", default="")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    tabulate(arguments.folder, arguments.name, arguments.command, arguments.commit)
