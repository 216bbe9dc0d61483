"""Plots of an evaluation, in one restrained style."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from chiasm.detection.report.scored import ScoredSample, framed
from chiasm.metrics.overlap_curve import region_weights
from chiasm.metrics.ranking import checked_images, flatten_pixels, threshold_counts
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


Series = tuple[tuple[float, float], ...]

ORDER = ("search", "train")


@dataclass(frozen=True, slots=True)
class History:
    """One stage: ``(step, value)`` of training loss and of validation AP, and epochs' ends."""

    loss: Series = ()
    ap: Series = ()
    epochs: tuple[int, ...] = ()


def read_histories(run: Path | None) -> dict[str, History]:
    """Read ``logs/<stage>/metrics.csv`` of a run's folder, search first; {} where none is there.

    A file that is not such a log is passed over: a report does not fail for want of a curve.
    """
    if run is None:
        return {}
    # The finalists of a search are many and short: their figures are in finalists.json.
    found = (p for p in run.glob("logs/*/metrics.csv") if not p.parent.name.startswith("final_"))
    paths = sorted(found, key=lambda p: (_rank(p), p.parent.name))
    histories = {path.parent.name: _read(path) for path in paths}
    return {stage: history for stage, history in histories.items() if history.loss or history.ap}


def epoch_means(history: History) -> Series:
    """The loss averaged over each epoch, at the epoch's middle step."""
    means = []
    for epoch in sorted(set(history.epochs)):
        inside = [point for point, own in zip(history.loss, history.epochs) if own == epoch]
        steps, losses = zip(*inside)
        means.append((sum(steps) / len(steps), sum(losses) / len(losses)))
    return tuple(means)


def _rank(path: Path) -> int:
    stage = path.parent.name
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _read(path: Path) -> History:
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        rows = list(csv.DictReader(stream))
    with_loss = [row for row in rows if _number(row.get("train_loss")) is not None]
    return History(
        loss=_series(with_loss, "train_loss"),
        ap=_series(rows, "validation_ap"),
        epochs=tuple(int(_number(row.get("epoch")) or 0) for row in with_loss),
    )


def _series(rows: Sequence[dict[str, str]], name: str) -> Series:
    found = []
    for row in rows:
        value = _number(row.get(name))
        if value is not None:
            found.append((_number(row.get("step")) or 0.0, value))
    return tuple(found)


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


Points = tuple[NDArray[np.float64], NDArray[np.float64]]

NONE: Points = (np.empty(0), np.empty(0))


def roc_points(scores: ArrayLike, labels: ArrayLike) -> Points:
    """False-alarm rate and hit rate at every score; its trapezoid area is the AUROC.

    Empty where a class is missing.

    Example:
        >>> [part.tolist() for part in roc_points([0.1, 0.9], [0, 1])]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(labels) == 1
    if not truth.any() or truth.all():
        return NONE
    thresholds = np.unique(values)
    good, bad = np.sort(values[~truth]), np.sort(values[truth])
    alarms = 1 - np.searchsorted(good, thresholds[::-1], side="left") / good.size
    hits = 1 - np.searchsorted(bad, thresholds[::-1], side="left") / bad.size
    return np.append(0.0, alarms), np.append(0.0, hits)


def precision_recall_points(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> Points:
    """Recall and precision over all pixels; precision summed over recall gained is the AP.

    Empty where no pixel is defective.
    """
    _, hits, alarms = threshold_counts(*flatten_pixels(maps, masks))
    if hits.size == 0:
        return NONE
    return hits / hits[-1], hits / (hits + alarms)


def overlap_points(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> Points:
    """False-positive rate and mean overlap of the regions; the area to a limit is the AUPRO.

    Corners as in ``metrics.region_overlap.aupro``. Empty where there is no region.
    """
    region: list[NDArray[Any]] = []
    weight: list[NDArray[np.float64]] = []
    good: list[NDArray[Any]] = []
    regions = 0
    for scores, mask, _ in checked_images(maps, masks, None):
        weights, count = region_weights(mask)
        regions += count
        region.append(scores[mask])
        weight.append(weights)
        good.append(scores[~mask])
    negatives = np.sort(np.concatenate(good)) if good else np.empty(0)
    if regions == 0 or negatives.size == 0:
        return NONE
    thresholds, group = np.unique(np.concatenate(region), return_inverse=True)
    gained = np.bincount(group, np.concatenate(weight), minlength=thresholds.size)[::-1]
    covered = np.cumsum(gained) / regions
    above = negatives.size - np.searchsorted(negatives, thresholds, side="right")[::-1]
    at = negatives.size - np.searchsorted(negatives, thresholds, side="left")[::-1]
    rate = np.stack([above, at], axis=-1).ravel() / negatives.size
    overlap = np.stack([np.append(0.0, covered[:-1]), covered], axis=-1).ravel()
    overlap = np.minimum(np.concatenate([[0.0], overlap, [1.0]]), 1.0)
    return np.concatenate([[0.0], rate, [1.0]]), overlap
