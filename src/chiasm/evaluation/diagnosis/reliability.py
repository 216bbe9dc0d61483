"""Does it happen as often as the model says?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from chiasm.evaluation.diagnosis.scored import ScoredRecordings
from chiasm.metrics.calibration import equal_mass_calibration_error, ordered_by_confidence, softmax
from chiasm.reporting.style import BAD, DPI, GOOD, INK, QUIET, plain, titled

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
