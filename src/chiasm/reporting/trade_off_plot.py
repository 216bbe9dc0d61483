"""Plot of the trade-offs between accuracy and cost that a search found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from chiasm.reporting.style import BAD, DPI, GOOD, INK, QUIET, label_axes
from chiasm.reporting.trade_offs import UNITS, Architecture, TradeOffs

COSTS = {"milliseconds": "milliseconds a part", "megabytes": "megabytes"}
NEAR = 0.035  # of an axis: two points so close have one label


def trade_off_plot(trade_offs: TradeOffs, path: Path, *, used: int | None) -> Path | None:
    """Draw the metric of all architectures over what they cost; None where that is not known.

    Pale: judged with shared weights. Strong: finalists after their own training, by number; hollow
    ones were trained for fewer steps. The line joins those that no other finalist beats.

    Args:
        trade_offs: to draw; megabytes get a panel where they have a budget.
        path: of the PNG.
        used: number of the finalist that is marked as the chosen one, if any.
    """
    names = ["milliseconds", *(["megabytes"] if "megabytes" in trade_offs.budgets else [])]
    if not any(math.isfinite(a.milliseconds) for a in trade_offs.judged):
        return None
    figure = Figure(figsize=(9.2, 3.9), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for number, (axes, name) in enumerate(zip(panels, names)):
        _panel(axes, trade_offs, name, used)
        label_axes(axes, COSTS[name], trade_offs.metric_words if number == 0 else "")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right upper", frameon=False, fontsize=8.5, labelcolor=INK,
        labelspacing=0.9,
    )  # fmt: skip
    figure.savefig(path, dpi=DPI)
    return path


def _panel(axes: Axes, trade_offs: TradeOffs, cost: str, used: int | None) -> None:
    finalists = [(n, a) for n, a in enumerate(trade_offs.finalists) if math.isfinite(a.figure)]
    judged = [a for a in trade_offs.judged if math.isfinite(a.figure)]
    low = _scale(axes, [a for _, a in finalists], judged)
    inside = [a for a in judged if a.shared >= low]
    below = [a for a in judged if a.shared < low]
    for chosen, marker, label in (
        (inside, "o", f"judged with\nshared weights ({len(judged)})"),
        (below, "v", f"the same, below\nthis scale ({len(below)})"),
    ):
        if chosen:
            axes.plot(
                [getattr(a, cost) for a in chosen], [max(a.shared, low) for a in chosen], marker,
                color=QUIET, alpha=0.35, markersize=4, markeredgewidth=0, label=label,
                clip_on=False,
            )  # fmt: skip
    front = [trade_offs.finalists[n] for n in trade_offs.front(cost)]
    axes.plot(
        [getattr(a, cost) for a in front], [a.figure for a in front], color=GOOD, linewidth=1.6,
        drawstyle="steps-post", label="the best up to\neach cost (front)", zorder=3,
    )  # fmt: skip
    most = max((a.steps for _, a in finalists), default=0)
    for hollow in (False, True):
        shown = [a for _, a in finalists if (a.steps < most) == hollow]
        if shown:
            axes.plot(
                [getattr(a, cost) for a in shown], [a.figure for a in shown], "o", color=GOOD,
                markerfacecolor="white" if hollow else GOOD, markersize=7.5, zorder=4,
                label="finalist, trained\nfor fewer steps" if hollow else "finalist",
            )  # fmt: skip
    _mark(axes, trade_offs, cost, used)
    _numbers(axes, [(n + 1, getattr(a, cost), a.figure) for n, a in finalists])
    if cost in trade_offs.budgets:
        limit = trade_offs.budgets[cost]
        axes.axvline(limit, color=INK, linewidth=1.2, linestyle="--", zorder=1)
        axes.annotate(
            f"budget {limit:g} {UNITS[cost]}", (limit, 1), (-4, -2),
            xycoords=("data", "axes fraction"), textcoords="offset points", rotation=90,
            ha="right", va="top", fontsize=8.5, color=INK,
        )  # fmt: skip


def _scale(axes: Axes, finalists: Sequence[Architecture], judged: Sequence[Architecture]) -> float:
    """Scale the metric so that the finalists and the better half of the others are told apart."""
    better = sorted(a.shared for a in judged)[len(judged) // 2 :]
    values = [a.figure for a in finalists] + better
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = max(0.08 * (high - low), 0.01)
    axes.set_ylim(low - margin, high + 1.6 * margin)
    return low - margin


def _mark(axes: Axes, trade_offs: TradeOffs, cost: str, used: int | None) -> None:
    """Mark the hand-made concatenation and the finalist that is used."""
    by_hand = trade_offs.number_of(trade_offs.hand_made.genotype)
    for number, marker, colour, label in (
        (by_hand, "s", INK, "hand-made\nconcatenation"),
        (used, "o", BAD, "chosen"),
    ):
        if number is not None and math.isfinite(trade_offs.finalists[number].figure):
            finalist = trade_offs.finalists[number]
            axes.plot(
                getattr(finalist, cost), finalist.figure, marker, color=colour, label=label,
                markerfacecolor="none", markersize=13, markeredgewidth=1.8, zorder=5,
                linestyle="none",
            )  # fmt: skip


def _numbers(axes: Axes, points: Sequence[tuple[int, float, float]]) -> None:
    """Write the numbers of points beside them; those of near ones together."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    groups: list[list[tuple[int, float, float]]] = []
    for point in points:
        for group in groups:
            _, x, y = group[0]
            across, up = abs(point[1] - x) / (right - left), abs(point[2] - y) / (top - bottom)
            if max(across, up) < NEAR:
                group.append(point)
                break
        else:
            groups.append([point])
    for group in groups:
        _, x, y = group[0]
        axes.annotate(
            ", ".join(str(number) for number, _, _ in group), (x, y), (0, 10),
            textcoords="offset points", ha="center", fontsize=9, color=INK, zorder=6,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
