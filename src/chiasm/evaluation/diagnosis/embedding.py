"""Where two modalities lie in the shared space, before the flow and after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from chiasm.evaluation.diagnosis.scored import ScoredRecordings
from chiasm.reporting.style import (
    DPI,
    INK,
    MODALITY_MARKS,
    MODALITY_WORDS,
    QUIET,
    colours,
    plain,
    shown,
    titled,
)

_MOST = 300
_TITLES = {"before": "Before the flow", "after": "After the flow"}


def principal_axes(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Return ``(N, D)`` points on their two widest axes, ``(N, 2)``, and the share of variance."""
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    _, strength, rows = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ rows[:2].T
    if flat.shape[1] < 2:
        flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    # The sign of an axis is arbitrary; the same data look the same everywhere.
    flat *= np.where(flat[np.abs(flat).argmax(axis=0), [0, 1]] < 0, -1, 1)
    total = float(np.square(strength).sum())
    return flat, float(np.square(strength[:2]).sum()) / total if total else 1.0


def embedding_scatter(
    scored: ScoredRecordings, gap: Mapping[str, Any] | None, path: Path
) -> Path | None:
    """Draw both clouds on the principal axes of their union; None where there are none.

    At most 300 recordings are drawn, evenly spaced in their order.
    """
    stages = {"before": scored.before, "after": scored.after}
    stages = {name: found for name, found in stages.items() if found}
    if not stages or len(scored) < 2:
        return None
    figure = Figure(figsize=(9.2, 3.9 if len(stages) == 2 else 4.4), layout="constrained")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, (name, found) in zip(panels, stages.items()):
        _draw(axes, scored, found)
        titled(axes, _TITLES[name], _gap_words((gap or {}).get(name)))
    _explain(figure, scored)
    figure.savefig(path, dpi=DPI)
    return path


def _draw(axes: Axes, scored: ScoredRecordings, found: Mapping[str, NDArray[np.floating]]) -> None:
    step = max(1, -(-len(scored) // _MOST))
    # A recording that lacks a modality has no point in its cloud.
    clouds = {name: np.isfinite(one[::step]).all(axis=1) for name, one in found.items()}
    points = [one[::step][clouds[name]] for name, one in found.items()]
    flat, share = principal_axes(np.concatenate(points))
    own = colours(scored.kinds)
    ends = np.cumsum([len(one) for one in points])
    for name, mine in zip(found, np.split(flat, ends[:-1])):
        palette = [own[label] for label in scored.labels[::step][clouds[name]].tolist()]
        hollow = name == "series"
        axes.scatter(
            mine[:, 0], mine[:, 1], s=17, marker=MODALITY_MARKS.get(name, "s"), alpha=0.85,
            facecolors="none" if hollow else palette, edgecolors=palette if hollow else "white",
            linewidths=0.9 if hollow else 0.3,
        )  # fmt: skip
    plain(axes, f"first two principal axes ({100 * share:.0f} % of the variance)", "")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")


def _explain(figure: Figure, scored: ScoredRecordings) -> None:
    """One legend for both panels: colours are classes, marks are modalities."""
    entries = [
        Line2D([], [], linestyle="", marker="s", color=colour, label=shown(kind), markersize=7)
        for kind, colour in zip(scored.kinds, colours(scored.kinds))
    ]
    for name in dict.fromkeys([*scored.before, *scored.after]):
        mark = Line2D([], [], linestyle="", marker=MODALITY_MARKS.get(name, "s"), markersize=6)
        mark.set_markerfacecolor("none" if name == "series" else QUIET)
        mark.set_markeredgecolor(QUIET)
        mark.set_label(f"by {MODALITY_WORDS.get(name, name)}")
        entries.append(mark)
    legend = figure.legend(
        handles=entries, loc="outside right center", frameon=False, fontsize=9, labelcolor=INK
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _gap_words(gap: Mapping[str, Any] | None) -> str:
    parts = [("distance", "distance of means"), ("mmd", "MMD²")]
    known = [f"{words} {gap[key]:.2f}" for key, words in parts if gap and gap[key] is not None]
    return ", ".join(known)
