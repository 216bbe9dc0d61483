"""Plots of an evaluation, in one restrained style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from chiasm.evaluation.histories import History, epoch_means
from chiasm.evaluation.points import Points, overlap_points, precision_recall_points, roc_points
from chiasm.evaluation.scored import ScoredSample, framed
from chiasm.reporting.style import BAD, DPI, GOOD, INK, QUIET

LIMITS = (0.3, 0.1, 0.05, 0.01)

STAGES = {"search": (QUIET, "--"), "train": (INK, "-")}


def score_histogram(scored: Sequence[ScoredSample], path: Path) -> Path | None:
    """Draw the scores of good and defective parts; None where there is nothing to draw."""
    judged = [s for s in scored if not s.verdict.error]
    if not judged:
        return None
    scores = np.array([s.verdict.score for s in judged])
    edges = np.linspace(scores.min(), scores.max() + 1e-6, 31)
    figure = Figure(figsize=(9.2, 2.7), layout="constrained")
    axes = figure.subplots()
    for label, colour, name in ((0, GOOD, "good"), (1, BAD, "defective"), (None, QUIET, "unknown")):
        values = [s.verdict.score for s in judged if s.sample.label == label]
        if values:
            axes.hist(
                values, edges.tolist(), color=colour, alpha=0.75, label=f"{name} ({len(values)})"
            )
    alarms = [s.verdict.score for s in judged if s.verdict.defective]
    passed = [s.verdict.score for s in judged if s.verdict.defective is False]
    if alarms and passed:
        threshold = (min(alarms) + max(passed)) / 2
        axes.axvline(threshold, color=INK, linewidth=1.2, label="alarm threshold")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes, "score of the part", "parts")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.savefig(path, dpi=DPI)
    return path


def metric_curves(
    scored: Sequence[ScoredSample], metrics: Mapping[str, Any], path: Path
) -> Path | None:
    """Draw ROC, precision-recall and per-region overlap side by side.

    A curve that these data cannot give is left out; None where they give none.
    """
    judged = [s for s in scored if not s.verdict.error and s.sample.label is not None]
    if not judged:
        return None
    frames = [framed(s) for s in judged if s.outlined]
    maps, masks = [f[0] for f in frames], [f[1] for f in frames]
    scores, labels = [s.verdict.score for s in judged], [s.sample.label == 1 for s in judged]
    roc, pr = roc_points(scores, labels), precision_recall_points(maps, masks)
    pro = overlap_points(maps, masks)
    count = sum(points[0].size > 0 for points in (roc, pr, pro))
    if not count:
        return None
    figure = Figure(figsize=(9.2 if count > 1 else 3.4, 3.3), layout="constrained")
    panels = iter(figure.subplots(1, count, squeeze=False)[0])
    if roc[0].size:
        _draw_roc(next(panels), roc, metrics["image"])
    if pr[0].size:
        share = sum(int(m.sum()) for m in masks) / sum(m.size for m in masks)
        _draw_precision_recall(next(panels), pr, share, metrics["pixel"]["ap"]["value"])
    if pro[0].size:
        _draw_overlap(next(panels), pro, metrics["region"]["aupro"])
    figure.savefig(path, dpi=DPI)
    return path


def learning_curves(histories: Mapping[str, History], path: Path) -> Path | None:
    """Draw training loss and validation AP over the steps of each stage; None without any."""
    if not any(history.loss or history.ap for history in histories.values()):
        return None
    figure = Figure(figsize=(9.2, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (stage, history) in enumerate(histories.items()):
        colour, style = STAGES.get(stage, (f"C{number}", "-"))
        name = "training" if stage == "train" else stage
        if history.loss:
            left.plot(*zip(*history.loss), color=colour, linewidth=0.8, alpha=0.3)
            means = epoch_means(history)
            left.plot(*zip(*means), color=colour, linestyle=style, linewidth=1.6, label=name)
        if history.ap:
            right.plot(
                *zip(*history.ap), color=colour, linestyle=style, linewidth=1.6, label=name,
                marker=".", markersize=5,
            )  # fmt: skip
    _plain(left, "step", "training loss")
    _plain(right, "step", "pixel AP on validation")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1)
    for axes in (left, right):
        if axes.lines:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.savefig(path, dpi=DPI)
    return path


def _draw_roc(axes: Axes, points: Points, image: Mapping[str, Any]) -> None:
    """Hit rate over false-alarm rate, with the point at which decisions are made."""
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    axes.plot(*points, color=GOOD, linewidth=1.8)
    alarms, missed = image["false_alarm_rate"]["value"], image["missed_rate"]["value"]
    if alarms is not None and missed is not None:
        axes.plot(alarms, 1 - missed, "o", color=BAD, markersize=6, zorder=5, clip_on=False)
        axes.annotate(
            "as decided", (alarms, 1 - missed), (8, -13), textcoords="offset points",
            fontsize=8.5, color=BAD,
        )  # fmt: skip
    _plain(axes, "false-alarm rate", "defective parts found")
    _unit(axes)
    _title(axes, "ROC, whole parts", "AUROC", image["auroc"]["value"])


def _draw_precision_recall(axes: Axes, points: Points, share: float, ap: float | None) -> None:
    """Precision over recall; the dotted line is what marking pixels at random gives."""
    recall, precision = _thinned(points)
    axes.axhline(share, color=QUIET, linewidth=1, linestyle=":")
    axes.plot(np.append(0, recall), np.append(precision[:1], precision), color=GOOD, linewidth=1.8)
    _plain(axes, "defective pixels marked (recall)", "marked pixels right (precision)")
    _unit(axes)
    _title(axes, "Precision-recall, pixels", "AP", ap)


def _draw_overlap(axes: Axes, points: Points, areas: Mapping[str, Mapping[str, Any]]) -> None:
    """Mean overlap of the regions up to a false-positive rate of 0.3, limits marked."""
    top = max(LIMITS)
    rate, overlap = _thinned(points, until=top)
    axes.plot([0, top], [0, top], color=QUIET, linewidth=1, linestyle=":")
    axes.plot(rate, overlap, color=GOOD, linewidth=1.8)
    for limit in LIMITS:
        axes.axvline(limit, color=INK, linewidth=0.7, alpha=0.5)
        area = areas.get(str(limit), {}).get("value")
        text = f"to {limit:g}" if area is None else f"to {limit:g}: {area:.3f}"
        right = limit < 0.03
        axes.annotate(
            text, (limit, 0.36), (2 if right else -2, 0), textcoords="offset points",
            rotation=90, ha="left" if right else "right", va="bottom", fontsize=7.5, color=INK,
        )  # fmt: skip
    _plain(axes, "good pixels marked (false-positive rate)", "mean overlap of the defects")
    axes.set_xlim(0, top * 1.005)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.1, 0.2, 0.3])
    _title(axes, "Per-region overlap", "AUPRO to each limit", None)


def _plain(axes: Axes, across: str, up: str) -> None:
    """Name the axes; no box, quiet ticks."""
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, color=QUIET, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def _unit(axes: Axes) -> None:
    """Both axes from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])


def _title(axes: Axes, name: str, figure: str, value: float | None) -> None:
    """The panel's name, and under it the area that it shows."""
    shown = figure if value is None else f"{figure} {value:.3f}"
    axes.set_title(f"{name}\n{shown}", fontsize=9.5, loc="left", color=INK)


def _thinned(points: Points, *, most: int = 2000, until: float | None = None) -> Points:
    """At most so many points; up to ``until`` along the first axis, and one beyond."""
    across, up = points
    if until is not None:
        end = int(np.searchsorted(across, until, side="right")) + 1
        across, up = across[:end], up[:end]
    if across.size > most:
        # Even steps along the curve's own length keep its corners.
        length = np.append(0, np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up))))
        wanted = np.searchsorted(length, np.linspace(0, length[-1], most))
        chosen = np.unique(np.append(np.minimum(wanted, across.size - 1), [0, across.size - 1]))
        across, up = across[chosen], up[chosen]
    return across, up
