"""What both stages of training logged about themselves, by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from chiasm.reporting.style import BAD, DPI, GOOD, INK, plain, titled

Series = tuple[tuple[float, float], ...]
# Panel: (title, axis, {column: (words, colour)}, from 0 to 1)
_PANELS = (
    ("Stage 1: contrast", "training, share of the worst",
     {"contrast_share": ("training", GOOD)}, True),
    ("Stage 1: held-out", "contrast, validation", {"validation_contrast": ("validation", BAD)},
     False),
    ("Stage 2: classes", "cross-entropy",
     {"train_loss": ("training", GOOD), "validation_loss": ("validation", BAD)}, False),
    ("Stage 2: held-out", "macro-F1, validation", {"validation_f1": ("validation", BAD)}, True),
)  # fmt: skip
_COLUMNS = tuple(column for _, _, columns, _ in _PANELS for column in columns)


def read_learning(run: Path | None) -> dict[str, Series]:
    """Read ``logs/*/metrics.csv`` of a run's folder: column to ``(epoch, value)``, last logged.

    What is no such log is passed over: a report does not fail for want of a curve.
    """
    found: dict[str, dict[float, float]] = {}
    for path in sorted(run.glob("logs/*/metrics.csv")) if run is not None else ():
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream):
                epoch = _number(row.get("epoch"))
                for column in _COLUMNS:
                    value = _number(row.get(column))
                    if epoch is not None and value is not None:
                        found.setdefault(column, {})[epoch + 1] = value
    return {column: tuple(sorted(values.items())) for column, values in found.items()}


def learning_curves(logged: Mapping[str, Series], path: Path) -> Path | None:
    """Draw the panels for which something was logged; None where nothing was."""
    panels = [panel for panel in _PANELS if any(logged.get(column) for column in panel[2])]
    if not panels:
        return None
    figure = Figure(figsize=(2.3 * max(len(panels), 2), 2.5), layout="constrained")
    for axes, (title, up, columns, unit) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels
    ):
        for column, (words, colour) in columns.items():
            if logged.get(column):
                axes.plot(
                    *zip(*logged[column]), color=colour, linewidth=1.6, label=words,
                    marker="." if len(logged[column]) < 25 else "", markersize=5,
                )  # fmt: skip
        plain(axes, "epoch", up)
        titled(axes, title)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0, top=1.02 if unit else None)
        if len(axes.lines) > 1:
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    figure.savefig(path, dpi=DPI)
    return path


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
