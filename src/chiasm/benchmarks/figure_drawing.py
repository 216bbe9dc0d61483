"""Pictures of the paper's Figures 1 and 5, drawn from a filled table and its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from chiasm.benchmarks.store import ResultStore
from chiasm.benchmarks.table import Filled, Table
from chiasm.benchmarks.trial import Trial
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.readers.opening import open_as_trained
from chiasm.detection.report.gallery import draw_comparison
from chiasm.detection.report.scored import ScoredSample, framed
from chiasm.metrics.ranking import average_precision

OURS, PAPER = "#4878a8", "#aaaaaa"
MOST_PARTS = 8  # rows of a picture


def draw_overview(
    table: Table, filled: Sequence[Filled], store: ResultStore
) -> tuple[Figure | None, dict[str, Any]]:
    """Draw image AUROC of the variants of each level, and of the methods over frames a second.

    Rows are named ``"LEVEL / VARIANT"``; those of the level ``"methods"`` have frames and memory,
    which is the area of their mark. Printed values are grey. None without any value.
    """
    values: dict[str, dict[str, tuple[float, bool]]] = {}
    for item in filled:
        is_printed = not item.entry.trials
        value = item.entry.printed if is_printed else item.value
        if value is not None:
            values.setdefault(item.entry.row, {})[item.entry.column] = (value, is_printed)
    if not values:
        return None, {}
    picture = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = picture.subplots(1, 2)
    levels = ("inter-module", "intra-module")
    spread: dict[str, Any] = {}
    for position, level in enumerate(levels):
        for is_printed, colour, shift in ((False, OURS, -0.12), (True, PAPER, 0.12)):
            found = [
                columns["image AUROC"][0]
                for row, columns in values.items()
                if row.startswith(f"{level} / ")
                and columns.get("image AUROC", (0, None))[1] is is_printed
            ]
            if not found:
                continue
            name = f"{level}{', printed' if is_printed else ''}"
            spread[name] = {"variants": len(found), "low": min(found), "high": max(found)}
            left.boxplot(
                found,
                positions=[position + shift],
                widths=0.18,
                manage_ticks=False,
                showfliers=False,
                medianprops={"color": colour},
            )
            # Beside each other, so that equal values are seen.
            across = position + shift + np.linspace(-0.05, 0.05, len(found))
            left.scatter(across, found, s=18, color=colour, zorder=3)
    left.set_xticks(range(len(levels)), levels)
    left.set_ylabel("image AUROC")
    left.set_title("variants of the fusion", fontsize=10)
    wanted = ("frames a second", "image AUROC", "memory, MB")
    for row, columns in values.items():
        if not row.startswith("methods / ") or not all(name in columns for name in wanted):
            continue
        frames, auroc, memory = (columns[name][0] for name in wanted)
        colour = PAPER if columns["image AUROC"][1] else OURS
        right.scatter(frames, auroc, s=memory / 8, color=colour, alpha=0.5)
        right.annotate(row.removeprefix("methods / "), (frames, auroc), fontsize=6)
    right.set_xscale("log")
    right.set_xlabel("frames a second; area of a mark: memory")
    right.set_ylabel("image AUROC")
    right.set_title("methods; grey: printed, of a GPU", fontsize=10)
    return picture, {"spread": spread}


def draw_parts(
    table: Table, filled: Sequence[Filled], store: ResultStore
) -> tuple[Figure | None, dict[str, Any]]:
    """Draw the maps of every finished method on the first part of each kind of defect.

    Of a method's trials on the same data, with several seeds, the first is drawn. None without a
    finished trial.
    """
    rows: dict[str, list[ScoredSample]] = {}
    shown: list[dict[str, Any]] = []
    trials: dict[str, dict[str, Trial]] = {}
    for item in filled:
        for trial in item.entry.trials:
            stored = store.read(trial)
            if stored is not None and stored.status == "done":
                trials.setdefault(trial.data.name, {}).setdefault(item.entry.row, trial)
    # A method that failed on one category would leave its column empty there.
    complete = [row for row in table.rows if trials and all(row in t for t in trials.values())]
    for category, by_row in trials.items():
        for row in complete:
            trial = by_row[row]
            predictor = DetectionPredictor.load(store.run_folder(trial))
            source, _ = open_as_trained(trial.data, predictor.contract.acquisition)
            first = {r.kind: r for r in reversed(source.refs) if r.split == "test" and r.label == 1}
            for kind, ref in sorted(first.items()):
                sample = source.load(ref)
                scored = ScoredSample(predictor.predict(sample), sample)
                caption = f"{category}: {kind}"
                rows.setdefault(caption, []).append(scored)
                scores, mask, inside = framed(scored)
                name = Path(ref.source).resolve().relative_to(trial.data.resolve().parent)
                part = {"category": category, "kind": kind, "part": str(name), "row": row}
                precise = bool(mask.any() and inside.any())
                ap = average_precision(scores[inside], mask[inside]) if precise else None
                shown.append(part | {"pixel AP of the part's object": ap})
    if not rows:
        return None, {"parts": []}
    return draw_comparison(list(rows.items())[:MOST_PARTS], complete), {"parts": shown}
