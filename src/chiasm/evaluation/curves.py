"""Plots of an evaluation, in one restrained style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from chiasm.evaluation.scored import ScoredSample

GOOD, BAD = "#3b7ea1", "#d1632f"  # told apart with any colour vision


def score_histogram(scored: Sequence[ScoredSample], path: Path) -> Path | None:
    """Draw the scores of good and defective parts; None where there is nothing to draw."""
    judged = [s for s in scored if not s.verdict.error]
    if not judged:
        return None
    scores = np.array([s.verdict.score for s in judged])
    edges = np.linspace(scores.min(), scores.max() + 1e-6, 31)
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots()
    for label, colour, name in ((0, GOOD, "good"), (1, BAD, "defective")):
        values = [s.verdict.score for s in judged if s.sample.label == label]
        if values:
            axes.hist(
                values, edges.tolist(), color=colour, alpha=0.75, label=f"{name} ({len(values)})"
            )
    alarms = [s.verdict.score for s in judged if s.verdict.defective]
    passed = [s.verdict.score for s in judged if s.verdict.defective is False]
    if alarms and passed:
        axes.axvline(
            (min(alarms) + max(passed)) / 2, color="#222222", linewidth=1.2, label="threshold"
        )
    axes.set_xlabel("image-level score")
    axes.set_ylabel("parts")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    return path
