"""Pictures of what was found, what was missed and what was alarmed for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from chiasm.evaluation.scored import ScoredSample


def choose(scored: Sequence[ScoredSample], *, most: int = 8) -> list[tuple[str, ScoredSample]]:
    """The misjudged first, then the clearest and the least clear defective and good parts."""
    judged = [s for s in scored if s.verdict.anomaly_map is not None]
    bad = sorted((s for s in judged if s.sample.label == 1), key=lambda s: -s.verdict.score)
    good = sorted((s for s in judged if s.sample.label != 1), key=lambda s: -s.verdict.score)
    wanted: list[tuple[str, ScoredSample]] = [
        ("found" if s.verdict.defective else "clearest, not alarmed", s) for s in bad[:3]
    ]
    wanted += [("missed", s) for s in bad[::-1] if s.verdict.defective is False][:2]
    wanted += [("false alarm", s) for s in good if s.verdict.defective][:2]
    wanted += [("passed", s) for s in good[::-1] if s.verdict.defective is False][:1]
    wanted += [("weakest found", s) for s in bad[::-1] if s.verdict.defective][:1]
    seen: set[int] = set()
    unique = []
    for reason, sample in wanted:
        if id(sample) not in seen:
            seen.add(id(sample))
            unique.append((reason, sample))
    return unique[:most]


def draw_gallery(scored: Sequence[ScoredSample], path: Path) -> Path | None:
    """Rows of RGB, height, map and truth; one colour scale for all maps."""
    chosen = choose(scored)
    if not chosen:
        return None
    figure = Figure(figsize=(9.6, 2.5 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    top = max(float(np.quantile(_scores(s), 0.9995)) for _, s in chosen) or 1.0
    for row, (reason, one) in zip(grid, chosen):
        sample = one.sample
        blank = np.full((*sample.valid.shape, 3), 0.93)
        rgb = sample.rgb if sample.rgb is not None else blank
        row[0].imshow(rgb)
        row[0].set_ylabel(f"{sample.kind or 'unknown'}\n{reason}", fontsize=9)
        if sample.xyz is not None:
            z = np.where(sample.valid, sample.xyz[..., 2], np.nan)
            low, high = np.nanquantile(z, [0.01, 0.99])
            row[1].set_facecolor("#dddddd")
            row[1].imshow(-z, cmap="viridis", vmin=-high, vmax=-low)
        else:
            row[1].imshow(blank)
        row[2].imshow(_scores(one), cmap="inferno", vmin=0, vmax=top)
        row[3].imshow(rgb * 0.6)
        if sample.mask is not None and sample.mask.any():
            row[3].contour(sample.mask, [0.5], colors="#ff8a3d", linewidths=1.4)
        row[2].set_title(
            f"score {one.verdict.score:.2f}, p = {one.verdict.p_value:.3f}", fontsize=8
        )
    for axes, name in zip(grid[0], ("RGB", "depth", None, "truth")):
        if name:
            axes.set_title(name, fontsize=9)
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=95)
    return path


def _scores(scored: ScoredSample) -> np.ndarray:
    assert scored.verdict.anomaly_map is not None
    return scored.verdict.anomaly_map.scores
