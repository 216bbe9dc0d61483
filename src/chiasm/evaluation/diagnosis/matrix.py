"""Which class was taken for which, and how well each is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from chiasm.reporting.style import DPI, GOOD, INK, QUIET, plain, shown, titled

_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#a9cadb", "#3b7ea1", "#1d4d69"])


def confusion_matrix(counts: Sequence[Sequence[int]], kinds: Sequence[str], path: Path) -> Path:
    """Draw ``(K, K)`` counts, rows the truth: shade is the share of the row, text the count."""
    table = np.asarray(counts, np.int64)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 1.3 + 0.62 * len(kinds)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap=_SHADES, vmin=0, vmax=1)
    for row, column in np.ndindex(*table.shape):
        number = int(table[row, column])
        strong = share[row, column] > 0.5
        colour = "#ffffff" if strong else (INK if number else "#c3cad0")
        axes.text(
            column, row, f"{number:,}", ha="center", va="center", fontsize=10, color=colour,
            fontweight="bold" if row == column else "normal",
        )  # fmt: skip
    places = np.arange(len(kinds))
    slanted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    words = [shown(kind) for kind in kinds]
    axes.set_xticks(places, words, **(slanted if max(map(len, words)) > 8 else {}))
    axes.set_yticks(places, words)
    plain(axes, "said", "true")
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    # White lines between the cells, none around them.
    axes.set_xticks(places[1:] - 0.5, minor=True)
    axes.set_yticks(places[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    titled(axes, "Confusion", "rows: the truth, shaded by share")
    figure.savefig(path, dpi=DPI)
    return path


def f1_bars(kinds: Mapping[str, Mapping[str, Any]], macro: Mapping[str, Any], path: Path) -> Path:
    """Draw the F1 of each class as a bar with its interval; a line where macro-F1 is."""
    names = list(kinds)
    figure = Figure(figsize=(4.3, 1.3 + 0.62 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        found = kinds[name]["f1"]
        if found["value"] is None:
            continue
        axes.barh(row, found["value"], height=0.5, color=GOOD, alpha=0.8)
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [row, row], color=INK, linewidth=1.4)
        axes.text(
            0.02, row, f"{found['value']:.3f}", va="center", fontsize=9, color="white",
            fontweight="bold",
        )  # fmt: skip
    if macro["value"] is not None:
        axes.axvline(macro["value"], color=QUIET, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), [shown(name) for name in names])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.003)
    plain(axes, "F1", "")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    titled(axes, "F1 by class", "line: 95 % interval; dotted: their mean")
    figure.savefig(path, dpi=DPI)
    return path
