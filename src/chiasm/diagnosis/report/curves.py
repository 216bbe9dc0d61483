"""Which class was taken for which, and how well each is told."""

from __future__ import annotations

import csv
import math
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
from chiasm.reporting.style import BAD, DPI, GOOD, INK, QUIET, plain, shown, titled

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


BINS = 15


def reliability_points(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and size of bins that hold equally many recordings, ``(B,)`` each.

    The size-weighted mean of their distances is ``equal_mass_calibration_error``.

    Example:
        >>> confidence, right, size = reliability_points([[0.9, 0.1], [0.6, 0.4]], [0, 1], bins=2)
        >>> confidence.tolist(), right.tolist(), size.tolist()
        ([0.6, 0.9], [0.0, 1.0], [1, 1])
    """
    confidence, right = ordered_by_confidence(probabilities, truth)
    places = np.arange(len(right))
    parts = [part for part in np.array_split(places, min(bins, max(len(right), 1))) if len(part)]
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
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
    for name, colour, mark, chances in stages:
        error = equal_mass_calibration_error(chances, scored.labels)
        confidence, correct, _ = reliability_points(chances, scored.labels)
        lowest = min(lowest, float(confidence.min()), float(correct.min()))
        left.plot(
            confidence, correct, color=colour, marker=mark, markersize=4.5, linewidth=1.4,
            label=f"{name}: ECE {error:.3f}", clip_on=False,
        )  # fmt: skip
    start = min(0.1 * np.floor(10 * lowest), 0.8)
    left.set_xlim(start, 1)
    left.set_ylim(start, 1.005)
    plain(left, "stated confidence", "share that is right")
    titled(left, "Reliability", "above the dotted line: too modest; below: too sure")
    left.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower right")
    _confidences(right, scored)
    figure.savefig(path, dpi=DPI)
    return path


def _confidences(axes: Axes, scored: ScoredRecordings) -> None:
    """How sure it was where it was right and where it was wrong."""
    confidence = scored.probabilities.max(axis=1)
    correct = scored.guesses == scored.labels
    edges = np.linspace(min(0.95, float(confidence.min())), 1, 31).tolist()
    parts = [confidence[correct], confidence[~correct]]
    names = [f"right ({len(parts[0]):,})", f"wrong ({len(parts[1]):,})"]
    axes.hist(parts, edges, color=[GOOD, BAD], label=names, stacked=True, alpha=0.85)
    # A few wrong ones would vanish beside a thousand right ones.
    axes.set_yscale("symlog", linthresh=10)
    ticks = [0, 5, 10, 100, 1000, 10000]
    top = axes.get_ylim()[1]
    axes.set_yticks([t for t in ticks if t <= top], [f"{t:,}" for t in ticks if t <= top])
    axes.minorticks_off()
    plain(axes, "stated confidence, after temperature", "recordings")
    titled(axes, "How sure it is", "where it was right, where it was wrong")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left")


# family: (title, axis, logarithmic, strength of the recording as it is, axis turned round)
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
    """Draw a panel for each family that is there, and one of dots for the rest.

    None where nothing was corrupted. The dotted line is macro-F1 of the recordings as they are.
    """
    curves: dict[str, list[Level]] = {}
    rest: dict[str, Mapping[str, Any]] = {}
    for name, found in corruptions.items():
        family, strength = LEVELS.get(name, ("", 0.0))
        if found["value"] is None:
            continue
        if family in _FAMILIES:
            curves.setdefault(family, []).append((strength, found))
        else:
            rest[name] = found
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
    title, unit, logarithmic, untouched, turned = _FAMILIES[family]
    points = sorted([*levels, *([(untouched, clean)] if untouched is not None else [])])
    points = [(x, f) for x, f in points if f["value"] is not None]
    across, values = [x for x, _ in points], [f["value"] for _, f in points]
    _reference(axes, clean)
    if all(f["low"] is not None for _, f in points):
        band = ([f["low"] for _, f in points], [f["high"] for _, f in points])
        axes.fill_between(across, *band, color=GOOD, alpha=0.18, linewidth=0)
    axes.plot(across, values, color=GOOD, linewidth=1.8, marker="o", markersize=4)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(_ticks(across), [f"{x:g}" for x in _ticks(across)])
    axes.minorticks_off()
    if turned:
        axes.invert_xaxis()
    plain(axes, unit, "macro-F1")
    titled(axes, title)


def _dots(axes: Axes, rest: Mapping[str, Mapping[str, Any]], clean: Mapping[str, Any]) -> None:
    """One dot for each corruption that has no strength, worded below."""
    _reference(axes, clean)
    for place, found in enumerate(rest.values()):
        if found["low"] is not None:
            axes.plot([place] * 2, [found["low"], found["high"]], color=BAD, alpha=0.4, linewidth=4)
        axes.plot(place, found["value"], "o", color=BAD, markersize=5)
    words = [
        "another's" if name == MISPAIRED else shown(name.removeprefix("picture: ")) for name in rest
    ]
    axes.set_xlim(-0.6, len(rest) - 0.4)
    plain(axes, "", "macro-F1")
    axes.set_xticks(
        range(len(rest)), words, rotation=40, ha="right", rotation_mode="anchor", fontsize=8
    )
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    titled(axes, "Picture changed")


def _reference(axes: Axes, clean: Mapping[str, Any]) -> None:
    if clean["value"] is not None:
        axes.axhline(clean["value"], color=QUIET, linewidth=1, linestyle=":")


def _ticks(across: list[float]) -> list[float]:
    """All places, or every other where they are many; first and last among them."""
    if len(across) <= 5:
        return across
    kept = np.unique(np.round(np.linspace(0, len(across) - 1, 5)).astype(int))
    return [across[place] for place in kept]
