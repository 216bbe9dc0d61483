"""Plots of a classifier's report: confusion, F1, learning, reliability, corruptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from chiasm.diagnosis.augmentation.corruptions import LEVELS, MISPAIRED
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.metrics.calibration import equal_mass_calibration_error, ordered_by_confidence, softmax
from chiasm.reporting.style import BAD, DPI, GOOD, INK, QUIET, add_title, label_axes, shortened
from chiasm.reporting.training_log import Series, read_training_logs

_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#a9cadb", "#3b7ea1", "#1d4d69"])


def confusion_matrix(counts: Sequence[Sequence[int]], kinds: Sequence[str], path: Path) -> Path:
    """Draw ``(K, K)`` counts by true class (row): shade is the share of the row, text the count."""
    table = np.asarray(counts, np.int64)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 1.3 + 0.62 * len(kinds)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap=_SHADES, vmin=0, vmax=1)
    for row, column in np.ndindex(*table.shape):
        number = int(table[row, column])
        dark = share[row, column] > 0.5
        colour = "#ffffff" if dark else (INK if number else "#c3cad0")
        axes.text(
            column, row, f"{number:,}", ha="center", va="center", fontsize=10, color=colour,
            fontweight="bold" if row == column else "normal",
        )  # fmt: skip
    ticks = np.arange(len(kinds))
    rotated: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    words = [shortened(kind) for kind in kinds]
    axes.set_xticks(ticks, words, **(rotated if max(map(len, words)) > 8 else {}))
    axes.set_yticks(ticks, words)
    label_axes(axes, "predicted", "true")
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    # White lines between the fields of the table, none around it.
    axes.set_xticks(ticks[1:] - 0.5, minor=True)
    axes.set_yticks(ticks[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    add_title(axes, "Confusion", "shaded by the share of the true class")
    figure.savefig(path, dpi=DPI)
    return path


def f1_bars(kinds: Mapping[str, Mapping[str, Any]], macro: Mapping[str, Any], path: Path) -> Path:
    """Draw the F1 of each class as a bar with its interval, and macro-F1 as a line."""
    names = list(kinds)
    figure = Figure(figsize=(4.3, 1.3 + 0.62 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        f1 = kinds[name]["f1"]
        if f1["value"] is None:
            continue
        axes.barh(row, f1["value"], height=0.5, color=GOOD, alpha=0.8)
        if f1["low"] is not None:
            axes.plot([f1["low"], f1["high"]], [row, row], color=INK, linewidth=1.4)
        axes.text(
            0.02, row, f"{f1['value']:.3f}", va="center", fontsize=9, color="white",
            fontweight="bold",
        )  # fmt: skip
    if macro["value"] is not None:
        axes.axvline(macro["value"], color=QUIET, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.003)
    label_axes(axes, "F1", "")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    add_title(axes, "F1 by class", "line: 95 % interval; dotted: macro-F1")
    figure.savefig(path, dpi=DPI)
    return path


# Panel: (title, axis, {column: (words, colour)}, from 0 to 1)
_PANELS = (
    ("Stage 1: contrast", "0 floor, 1 chance",
     {"contrast_share": ("training", GOOD), "validation_contrast_share": ("validation", BAD)},
     True),
    ("Stage 1: held-out", "contrast, validation", {"validation_contrast": ("validation", BAD)},
     False),
    ("Stage 2: classes", "cross-entropy",
     {"train_loss": ("training", GOOD), "validation_loss": ("validation", BAD)}, False),
    ("Stage 2: held-out", "macro-F1, validation", {"validation_f1": ("validation", BAD)}, True),
)  # fmt: skip

_COLUMNS = tuple(column for _, _, columns, _ in _PANELS for column in columns)


def read_learning(run: Path | None) -> dict[str, Series]:
    """Return ``(epoch, value)`` of each logged column, the last value of an epoch."""
    series: dict[str, dict[float, float]] = {}
    for rows in read_training_logs(run).values():
        for row in rows:
            for column in _COLUMNS:
                if column in row and "epoch" in row:
                    series.setdefault(column, {})[row["epoch"] + 1] = row[column]
    return {column: tuple(sorted(values.items())) for column, values in series.items()}


def learning_curves(logged: Mapping[str, Series], path: Path) -> Path | None:
    """Draw the panels with logged values; None without any."""
    panels = [panel for panel in _PANELS if any(logged.get(column) for column in panel[2])]
    if not panels:
        return None
    figure = Figure(figsize=(2.3 * max(len(panels), 2), 2.5), layout="constrained")
    for axes, (title, label, columns, unit) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels
    ):
        for column, (words, colour) in columns.items():
            if logged.get(column):
                axes.plot(
                    *zip(*logged[column]), color=colour, linewidth=1.6, label=words,
                    marker="." if len(logged[column]) < 25 else "", markersize=5,
                )  # fmt: skip
        label_axes(axes, "epoch", label)
        add_title(axes, title)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0, top=1.02 if unit else None)
        if len(axes.lines) > 1:
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    figure.savefig(path, dpi=DPI)
    return path


BINS = 15


def reliability_points(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Compute mean confidence, accuracy and size ``(B,)`` of bins of equally many recordings.

    The size-weighted mean of their distances is ``equal_mass_calibration_error``.

    Example:
        >>> points = reliability_points([[0.9, 0.1], [0.6, 0.4]], [0, 1], bins=2)
        >>> tuple(column.tolist() for column in points)
        ([0.6, 0.9], [0.0, 1.0], [1, 1])
    """
    confidence, correct = ordered_by_confidence(probabilities, truth)
    indices = np.arange(len(correct))
    parts = [part for part in np.array_split(indices, min(bins, max(len(correct), 1))) if len(part)]
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([correct[part].mean() for part in parts]),
        np.array([len(part) for part in parts], np.int64),
    )


def reliability_diagram(scored: ScoredRecordings, path: Path) -> Path | None:
    """Draw confidence against accuracy before and after temperature; None without recordings."""
    if not len(scored):
        return None
    figure = Figure(figsize=(9.2, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.05, 1])
    stages = (
        ("as trained", QUIET, "s", softmax(scored.logits)),
        (f"temperature {scored.temperature:.2f}", GOOD, "o", scored.probabilities),
    )
    left.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    lowest = 1.0
    for name, colour, marker, probabilities in stages:
        error = equal_mass_calibration_error(probabilities, scored.labels)
        confidence, correct, _ = reliability_points(probabilities, scored.labels)
        lowest = min(lowest, float(confidence.min()), float(correct.min()))
        left.plot(
            confidence, correct, color=colour, marker=marker, markersize=4.5, linewidth=1.4,
            label=f"{name}: ECE {error:.3f}", clip_on=False,
        )  # fmt: skip
    start = min(0.1 * np.floor(10 * lowest), 0.8)
    left.set_xlim(start, 1)
    left.set_ylim(start, 1.005)
    label_axes(left, "confidence", "accuracy")
    add_title(left, "Reliability", "above the dotted line: underconfident; below: overconfident")
    left.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower right")
    _confidences(right, scored)
    figure.savefig(path, dpi=DPI)
    return path


def _confidences(axes: Axes, scored: ScoredRecordings) -> None:
    """Draw histograms of the confidence of correct and wrong diagnoses."""
    confidence = scored.probabilities.max(axis=1)
    correct = scored.guesses == scored.labels
    edges = np.linspace(min(0.95, float(confidence.min())), 1, 31).tolist()
    parts = [confidence[correct], confidence[~correct]]
    names = [f"correct ({len(parts[0]):,})", f"wrong ({len(parts[1]):,})"]
    axes.hist(parts, edges, color=[GOOD, BAD], label=names, stacked=True, alpha=0.85)
    # On a linear scale, a few wrong ones would be invisible.
    axes.set_yscale("symlog", linthresh=10)
    ticks = [0, 5, 10, 100, 1000, 10000]
    top = axes.get_ylim()[1]
    axes.set_yticks([t for t in ticks if t <= top], [f"{t:,}" for t in ticks if t <= top])
    axes.minorticks_off()
    label_axes(axes, "confidence, after temperature", "recordings")
    add_title(axes, "Confidence", "of correct and wrong diagnoses")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left")


# family: (title, axis, logarithmic, strength of the clean recording, inverted axis)
_FAMILIES = {
    "phase shift": ("Phase shifted", "degrees", False, 0.0, False),
    "gain": ("Louder, quieter", "gain of the series", True, 1.0, False),
    "noise": ("Noise added", "signal-to-noise, dB", False, None, True),
    "length": ("Shortened", "seconds of the series", True, 20.0, True),
}

Level = tuple[float, Mapping[str, Any]]


def corruption_curves(
    corruptions: Mapping[str, Mapping[str, Any]], clean: Mapping[str, Any], path: Path
) -> Path | None:
    """Draw a panel for each present family, and one of dots for the other corruptions.

    None without corruptions. The dotted line is the macro-F1 of the clean recordings.
    """
    curves: dict[str, list[Level]] = {}
    rest: dict[str, Mapping[str, Any]] = {}
    for name, f1 in corruptions.items():
        family, strength = LEVELS.get(name, ("", 0.0))
        if f1["value"] is None:
            continue
        if family in _FAMILIES:
            curves.setdefault(family, []).append((strength, f1))
        else:
            rest[name] = f1
    count = len(curves) + bool(rest)
    if not count:
        return None
    widths = [1.0] * len(curves) + [0.8] * bool(rest)
    figure = Figure(figsize=(9.2 if count > 2 else 4.6, 2.75), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, width_ratios=widths)[0]
    for axes, family in zip(panels, (f for f in _FAMILIES if f in curves)):
        _curve(axes, family, curves[family], clean)
    if rest:
        _dots(panels[-1], rest, clean)
    for number, axes in enumerate(panels):
        axes.set_ylim(0, 1.02)
        if number:
            axes.set_yticklabels([])
            axes.set_ylabel("")
    figure.savefig(path, dpi=DPI)
    return path


def _curve(axes: Axes, family: str, levels: list[Level], clean: Mapping[str, Any]) -> None:
    title, unit, logarithmic, clean_strength, inverted = _FAMILIES[family]
    points = sorted([*levels, *([(clean_strength, clean)] if clean_strength is not None else [])])
    points = [(x, f) for x, f in points if f["value"] is not None]
    strengths, values = [x for x, _ in points], [f["value"] for _, f in points]
    _reference(axes, clean)
    if all(f["low"] is not None for _, f in points):
        band = ([f["low"] for _, f in points], [f["high"] for _, f in points])
        axes.fill_between(strengths, *band, color=GOOD, alpha=0.18, linewidth=0)
    axes.plot(strengths, values, color=GOOD, linewidth=1.8, marker="o", markersize=4)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(_ticks(strengths), [f"{x:g}" for x in _ticks(strengths)])
    axes.minorticks_off()
    if inverted:
        axes.invert_xaxis()
    label_axes(axes, unit, "macro-F1")
    add_title(axes, title)


def _dots(axes: Axes, rest: Mapping[str, Mapping[str, Any]], clean: Mapping[str, Any]) -> None:
    """Draw a dot for each corruption without a strength."""
    _reference(axes, clean)
    for x, f1 in enumerate(rest.values()):
        if f1["low"] is not None:
            axes.plot([x] * 2, [f1["low"], f1["high"]], color=BAD, alpha=0.4, linewidth=4)
        axes.plot(x, f1["value"], "o", color=BAD, markersize=5)
    words = [
        "another's" if name == MISPAIRED else shortened(name.removeprefix("picture: "))
        for name in rest
    ]
    axes.set_xlim(-0.6, len(rest) - 0.4)
    label_axes(axes, "", "macro-F1")
    axes.set_xticks(
        range(len(rest)), words, rotation=40, ha="right", rotation_mode="anchor", fontsize=8
    )
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    add_title(axes, "Picture changed")


def _reference(axes: Axes, clean: Mapping[str, Any]) -> None:
    if clean["value"] is not None:
        axes.axhline(clean["value"], color=QUIET, linewidth=1, linestyle=":")


def _ticks(strengths: list[float]) -> list[float]:
    """Return at most five of the strengths, including the first and the last."""
    if len(strengths) <= 5:
        return strengths
    indices = np.unique(np.round(np.linspace(0, len(strengths) - 1, 5)).astype(int))
    return [strengths[index] for index in indices]
