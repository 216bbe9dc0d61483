"""Embeddings of two modalities before and after the flow: scatter plot and gap."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.reporting.style import (
    DPI,
    INK,
    MODALITY_MARKS,
    MODALITY_WORDS,
    QUIET,
    add_title,
    colours,
    label_axes,
    shortened,
)

_MAXIMUM_POINTS = 300
_TITLES = {"before": "Before the flow", "after": "After the flow"}


def principal_axes(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Project ``(N, D)`` points on two principal axes ``(N, 2)``; also return their variance."""
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    _, strength, rows = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ rows[:2].T
    if flat.shape[1] < 2:
        flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    # The sign of an axis is arbitrary; it is fixed, so that plots of the same data are equal.
    flat *= np.where(flat[np.abs(flat).argmax(axis=0), [0, 1]] < 0, -1, 1)
    total = float(np.square(strength).sum())
    return flat, float(np.square(strength[:2]).sum()) / total if total else 1.0


def embedding_scatter(
    scored: ScoredRecordings, gap: Mapping[str, Any] | None, path: Path
) -> Path | None:
    """Draw both clouds on the principal axes of their union; None without any.

    At most 300 recordings are drawn, evenly spaced in their order.
    """
    stages = {"before": scored.before, "after": scored.after}
    stages = {name: clouds for name, clouds in stages.items() if clouds}
    if not stages or len(scored) < 2:
        return None
    figure = Figure(figsize=(9.2, 3.9 if len(stages) == 2 else 4.4), layout="constrained")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, (name, clouds) in zip(panels, stages.items()):
        _draw(axes, scored, clouds)
        add_title(axes, _TITLES[name], _gap_words((gap or {}).get(name)))
    _legend(figure, scored)
    figure.savefig(path, dpi=DPI)
    return path


def _draw(axes: Axes, scored: ScoredRecordings, clouds: Mapping[str, NDArray[np.floating]]) -> None:
    step = max(1, -(-len(scored) // _MAXIMUM_POINTS))
    # A recording that lacks a modality has no point in its cloud.
    present = {name: np.isfinite(cloud[::step]).all(axis=1) for name, cloud in clouds.items()}
    points = [cloud[::step][present[name]] for name, cloud in clouds.items()]
    flat, share = principal_axes(np.concatenate(points))
    class_colours = colours(scored.kinds)
    ends = np.cumsum([len(cloud) for cloud in points])
    for name, projected in zip(clouds, np.split(flat, ends[:-1])):
        labels = scored.labels[::step][present[name]].tolist()
        palette = [class_colours[label] for label in labels]
        hollow = name == "series"
        x, y = projected.T
        axes.scatter(
            x, y, s=17, marker=MODALITY_MARKS.get(name, "s"), alpha=0.85,
            facecolors="none" if hollow else palette, edgecolors=palette if hollow else "white",
            linewidths=0.9 if hollow else 0.3,
        )  # fmt: skip
    label_axes(axes, f"first two principal axes ({100 * share:.0f} % of the variance)", "")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")


def _legend(figure: Figure, scored: ScoredRecordings) -> None:
    """Draw one legend for both panels: colours are classes, markers are modalities."""
    entries = [
        Line2D([], [], linestyle="", marker="s", color=colour, label=shortened(kind), markersize=7)
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


_MAXIMUM_SAMPLES = 1000


def modality_gap(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> dict[str, float]:
    """Compute three measures of the gap, invariant to scaling or rotating both clouds together.

    ``distance``: between the means, in root mean square distances of a point from its mean; 0 is
    no gap. ``variance_ratio``: total variance of the first divided by the second's; 1 is equal.
    ``mmd``: maximum mean discrepancy, squared and unbiased, so that it can be slightly negative;
    0 is equal, 1 far apart.

    Args:
        first: ``(N, D)``.
        second: ``(M, D)``.
        seed: of the sample, if there are more than 1000 points.

    Raises:
        DataError: shapes disagree, or a cloud has fewer than two points.

    References:
        Gretton et al., A Kernel Two-Sample Test, JMLR 2012, lemma 6; Gaussian kernel with the
        median distance of all pairs as its width.
        Liang et al., Mind the Gap, NeurIPS 2022.
    """
    one, two = (np.asarray(values, np.float64) for values in (first, second))
    if (
        one.ndim != 2
        or two.ndim != 2
        or one.shape[1] != two.shape[1]
        or min(len(one), len(two)) < 2
    ):
        raise DataError(
            f"A gap is measured between (N, D) and (M, D) embeddings, at least two each, not "
            f"between {one.shape} and {two.shape}."
        )
    variances = [float(values.var(axis=0, ddof=1).sum()) for values in (one, two)]
    distance = float(np.linalg.norm(one.mean(axis=0) - two.mean(axis=0)))
    scale = float(np.sqrt(sum(variances) / 2))
    return {
        "distance": distance / scale if scale else float("nan"),
        "variance_ratio": variances[0] / variances[1] if variances[1] else float("nan"),
        "mmd": _mmd(_sample(one, seed), _sample(two, seed)),
    }


def _sample(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    if len(values) <= _MAXIMUM_SAMPLES:
        return values
    return values[np.random.default_rng(seed).choice(len(values), _MAXIMUM_SAMPLES, replace=False)]


def _mmd(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    both = np.concatenate([one, two])
    squared = cdist(both, both, "sqeuclidean")
    width = float(np.median(squared[np.triu_indices(len(both), 1)]))
    if width == 0:
        return float("nan")
    kernel = np.exp(-squared / (2 * width))
    n, m = len(one), len(two)
    inside = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(inside - 2 * kernel[:n, n:].mean())
