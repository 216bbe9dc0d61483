"""Plots of the report of a detector: histogram of scores, metric curves, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from chiasm.detection.report.scored import ScoredSample, framed_all
from chiasm.metrics.overlap_curve import DEFAULT_LIMITS
from chiasm.metrics.ranking import flatten_pixels, threshold_counts
from chiasm.metrics.region_overlap import overlap_curve
from chiasm.reporting.style import BAD, DPI, GOOD, INK, QUIET, add_title, label_axes
from chiasm.reporting.training_log import Series, read_training_logs

FINALS = ("final_", "finalist_")  # stages of finalists; the first in earlier runs
STAGES = {"search": (QUIET, "--"), "train": (INK, "-")}


def score_histogram(scored: Sequence[ScoredSample], path: Path) -> Path | None:
    """Draw the scores of good and defective parts; return None without a score."""
    scored = [s for s in scored if not s.verdict.error]
    if not scored:
        return None
    scores = np.array([s.verdict.score for s in scored])
    edges = np.linspace(scores.min(), scores.max() + 1e-6, 31)
    figure = Figure(figsize=(9.2, 2.7), layout="constrained")
    axes = figure.subplots()
    for label, colour, name in ((0, GOOD, "good"), (1, BAD, "defective"), (None, QUIET, "unknown")):
        values = [s.verdict.score for s in scored if s.sample.label == label]
        if values:
            axes.hist(
                values, edges.tolist(), color=colour, alpha=0.75, label=f"{name} ({len(values)})"
            )
    alarms = [s.verdict.score for s in scored if s.verdict.defective]
    passed = [s.verdict.score for s in scored if s.verdict.defective is False]
    if alarms and passed:
        threshold = (min(alarms) + max(passed)) / 2
        axes.axvline(threshold, color=INK, linewidth=1.2, label="alarm threshold")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(axes, "score of the part", "parts")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.savefig(path, dpi=DPI)
    return path


def metric_curves(
    scored: Sequence[ScoredSample], metrics: Mapping[str, Any], path: Path
) -> Path | None:
    """Draw ROC, precision-recall and per-region overlap side by side.

    A curve that the data do not define is left out; without any curve the result is None.
    """
    labelled = [s for s in scored if not s.verdict.error and s.sample.label is not None]
    if not labelled:
        return None
    frames = framed_all(s for s in labelled if s.has_pixel_truth)
    maps, masks = [f[0] for f in frames], [f[1] for f in frames]
    scores = [s.verdict.score for s in labelled]
    labels = [s.sample.label == 1 for s in labelled]
    roc, pr = roc_points(scores, labels), precision_recall_points(maps, masks)
    pro = overlap_curve(maps, masks)
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
    """Draw training loss and validation AP over the steps of each stage; None without a log."""
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
    label_axes(left, "step", "training loss")
    label_axes(right, "step", "pixel AP on validation")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1)
    for axes in (left, right):
        if axes.lines:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.savefig(path, dpi=DPI)
    return path


def _draw_roc(axes: Axes, points: Points, image: Mapping[str, Any]) -> None:
    """Draw the hit rate over the false-alarm rate, and the point of the decisions."""
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    axes.plot(*points, color=GOOD, linewidth=1.8)
    alarms, missed = image["false_alarm_rate"]["value"], image["missed_rate"]["value"]
    if alarms is not None and missed is not None:
        axes.plot(alarms, 1 - missed, "o", color=BAD, markersize=6, zorder=5, clip_on=False)
        axes.annotate(
            "decisions", (alarms, 1 - missed), (8, -13), textcoords="offset points",
            fontsize=8.5, color=BAD,
        )  # fmt: skip
    label_axes(axes, "false-alarm rate", "defective parts found")
    _unit(axes)
    add_title(axes, "ROC, whole parts", _area("AUROC", image["auroc"]["value"]))


def _draw_precision_recall(axes: Axes, points: Points, share: float, ap: float | None) -> None:
    """Draw precision over recall; the dotted line is the precision of random marking."""
    recall, precision = _thinned(points)
    axes.axhline(share, color=QUIET, linewidth=1, linestyle=":")
    axes.plot(np.append(0, recall), np.append(precision[:1], precision), color=GOOD, linewidth=1.8)
    label_axes(axes, "defective pixels marked (recall)", "marked pixels right (precision)")
    _unit(axes)
    add_title(axes, "Precision-recall, pixels", _area("AP", ap))


def _draw_overlap(axes: Axes, points: Points, areas: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the mean overlap of the regions up to a false-positive rate of 0.3, with the limits."""
    highest = max(DEFAULT_LIMITS)
    rate, overlap = _thinned(points, until=highest)
    axes.plot([0, highest], [0, highest], color=QUIET, linewidth=1, linestyle=":")
    axes.plot(rate, overlap, color=GOOD, linewidth=1.8)
    for limit in DEFAULT_LIMITS:
        axes.axvline(limit, color=INK, linewidth=0.7, alpha=0.5)
        area = areas.get(str(limit), {}).get("value")
        text = f"to {limit:g}" if area is None else f"to {limit:g}: {area:.3f}"
        right = limit < 0.03
        axes.annotate(
            text, (limit, 0.36), (2 if right else -2, 0), textcoords="offset points",
            rotation=90, ha="left" if right else "right", va="bottom", fontsize=7.5, color=INK,
        )  # fmt: skip
    label_axes(axes, "good pixels marked (false-positive rate)", "mean overlap of the defects")
    axes.set_xlim(0, highest * 1.005)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.1, 0.2, 0.3])
    add_title(axes, "Per-region overlap", "AUPRO to each limit")


def _area(name: str, value: float | None) -> str:
    return name if value is None else f"{name} {value:.3f}"


def _unit(axes: Axes) -> None:
    """Scale both axes from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])


def _thinned(points: Points, *, most: int = 2000, until: float | None = None) -> Points:
    """Return at most ``most`` points, up to ``until`` along the first axis and one beyond."""
    x, y = points
    if until is not None:
        end = int(np.searchsorted(x, until, side="right")) + 1
        x, y = x[:end], y[:end]
    if x.size > most:
        # Equal steps along the length of the curve preserve its corners.
        length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
        steps = np.searchsorted(length, np.linspace(0, length[-1], most))
        indices = np.unique(np.append(np.minimum(steps, x.size - 1), [0, x.size - 1]))
        x, y = x[indices], y[indices]
    return x, y


_STAGE_ORDER = ("search", "train")


@dataclass(frozen=True, slots=True)
class History:
    """Log of one stage: ``(step, value)`` of loss and validation AP, and the epoch of each loss."""

    loss: Series = ()
    ap: Series = ()
    epochs: tuple[int, ...] = ()


def read_histories(run: Path | None) -> dict[str, History]:
    """Return the history of each training stage of a run that logged one, search first."""
    # A search has many short trainings of finalists; their figures are in finalists.json.
    logs = {k: rows for k, rows in read_training_logs(run).items() if not k.startswith(FINALS)}
    histories = {stage: _history(logs[stage]) for stage in sorted(logs, key=_rank)}
    return {stage: history for stage, history in histories.items() if history.loss or history.ap}


def epoch_means(history: History) -> Series:
    """Return the mean loss of each epoch at its middle step."""
    means = []
    for epoch in sorted(set(history.epochs)):
        points = [point for point, e in zip(history.loss, history.epochs) if e == epoch]
        steps, losses = zip(*points)
        means.append((sum(steps) / len(steps), sum(losses) / len(losses)))
    return tuple(means)


def _rank(stage: str) -> tuple[int, str]:
    known = stage in _STAGE_ORDER
    return (_STAGE_ORDER.index(stage) if known else len(_STAGE_ORDER)), stage


def _history(rows: Sequence[Mapping[str, float]]) -> History:
    with_loss = [row for row in rows if "train_loss" in row]
    return History(
        loss=_series(with_loss, "train_loss"),
        ap=_series(rows, "validation_ap"),
        epochs=tuple(int(row.get("epoch", 0.0)) for row in with_loss),
    )


def _series(rows: Sequence[Mapping[str, float]], column: str) -> Series:
    return tuple((row.get("step", 0.0), row[column]) for row in rows if column in row)


Points = tuple[NDArray[np.float64], NDArray[np.float64]]

EMPTY: Points = (np.empty(0), np.empty(0))


def roc_points(scores: ArrayLike, labels: ArrayLike) -> Points:
    """Return false-alarm rate and hit rate at every score; the trapezoid area is the AUROC.

    Both are empty if a class is missing.

    Example:
        >>> [part.tolist() for part in roc_points([0.1, 0.9], [0, 1])]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    truth = np.asarray(labels) == 1
    if not truth.any() or truth.all():
        return EMPTY
    alarms, hits, _ = roc_curve(truth, scores, drop_intermediate=False)
    return alarms, hits


def precision_recall_points(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> Points:
    """Return recall and precision over all pixels; precision summed over gained recall is the AP.

    Both are empty if no pixel is defective.
    """
    _, hits, alarms = threshold_counts(*flatten_pixels(maps, masks))
    if hits.size == 0:
        return EMPTY
    return hits / hits[-1], hits / (hits + alarms)
