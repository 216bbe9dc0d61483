"""Pictures of what was found, what was missed and what was alarmed for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from chiasm.detection.preparation.support_plane import fit_support_plane
from chiasm.detection.report.scored import ScoredSample

KIND_WIDTH = 17
COLUMNS = ("colour", "height", "anomaly map", "truth")
SIDE, GAP = 260, 8  # pixels of a panel, and between panels
OUTLINE = (255, 138, 61)
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A part to show: why, and its four panels side by side."""

    reason: str
    sample: ScoredSample
    strip: Picture

    @property
    def kind(self) -> str:
        """``"good"``, the kind of defect, or ``"unknown"``."""
        return self.sample.sample.kind or "unknown"


def choose(scored: Sequence[ScoredSample], *, most: int = 8) -> list[tuple[str, ScoredSample]]:
    """The clearest finds, then all sorts of misjudged parts, then the least clear ones.

    At least half of the places go to the misjudged where there are so many.
    """
    judged = [s for s in scored if s.verdict.anomaly_map is not None]
    ranked = sorted(judged, key=lambda s: -s.verdict.score)
    bad = [s for s in ranked if s.sample.label == 1]
    good = [s for s in ranked if s.sample.label == 0]
    unknown = [s for s in ranked if s.sample.label is None]
    found = [s for s in bad if s.verdict.defective]
    missed = [s for s in bad[::-1] if s.verdict.defective is False]
    false = [s for s in good if s.verdict.defective]
    passed = [s for s in good[::-1] if s.verdict.defective is False]
    undecided = [s for s in ranked if s.verdict.defective is None]
    clearest = list({s.sample.kind: s for s in found[::-1]}.values())
    clearest.sort(key=lambda s: -s.verdict.score)
    wanted = [("found", s) for s in clearest[:2]]
    wanted += [("missed", s) for s in missed[:2]] + [("false alarm", s) for s in false[:2]]
    wanted += [("found, least clear", s) for s in found[::-1][:1]]
    wanted += [("passed", s) for s in passed[:1]]
    wanted += [("alarm", s) for s in unknown if s.verdict.defective][:4]
    wanted += [("not decided", s) for s in undecided[:2] + undecided[-2:]]
    wanted += [("missed", s) for s in missed[2:]] + [("false alarm", s) for s in false[2:]]
    unique: dict[int, tuple[str, ScoredSample]] = {}
    for reason, one in wanted:
        unique.setdefault(id(one), (reason, one))
    return list(unique.values())[:most]


def make_cases(scored: Sequence[ScoredSample], *, most: int = 8) -> list[Case]:
    """Draw the chosen parts; one colour scale for all anomaly maps.

    It runs from the usual pixel of an object to nearly the largest score, in log-odds: what is
    faint shows, and what is faint in one row looks faint beside the others.
    """
    chosen = choose(scored, most=most)
    odds = [o[np.isfinite(o)] for o in (_log_odds(s) for _, s in chosen)]
    some = [o for o in odds if o.size]
    low = float(np.median([np.median(o) for o in some])) if some else 0.0
    top = max((float(np.quantile(o, 0.9995)) for o in some), default=1.0)
    scale = (low, max(top, low + 1e-6))
    return [Case(reason, sample, _strip(sample, scale)) for reason, sample in chosen]


def draw_gallery(cases: Sequence[Case], path: Path) -> Path | None:
    """Write all cases into one picture, a row each; None where there is none."""
    if not cases:
        return None
    # In inches: captions at the left, a line of headings on top, strips as wide as is left.
    left, top, gap, width = 1.7, 0.3, 0.08, 8.6
    tall = width * SIDE / (4 * SIDE + 3 * GAP)
    size = (left + width + gap, top + len(cases) * (tall + gap))
    figure = Figure(figsize=size)
    for row, case in enumerate(cases):
        bottom = size[1] - top - row * (tall + gap) - tall
        box = (left / size[0], bottom / size[1], width / size[0], tall / size[1])
        axes = figure.add_axes(box)
        axes.imshow(case.strip, aspect="auto")
        axes.set_axis_off()
        text = f"{kind_words(case.kind)}\n{case.reason}\nscore {case.sample.verdict.score:.2f}"
        axes.text(
            -0.012, 0.5, text, transform=axes.transAxes, ha="right", va="center",
            fontsize=9, linespacing=1.4, parse_math=False,
        )  # fmt: skip
    for number, name in enumerate(COLUMNS):
        across = left + width * (number + 0.5) / len(COLUMNS)
        figure.text(across / size[0], 1 - 0.2 / size[1], name, ha="center", fontsize=9)
    figure.savefig(path, dpi=110)
    return path


def _strip(scored: ScoredSample, scale: tuple[float, float]) -> Picture:
    """Colour, depth, map and truth, cut to the object, side by side on white."""
    sample = scored.sample
    shape = (*sample.valid.shape, 3)
    colour = np.full(shape, 237, np.uint8) if sample.rgb is None else _bytes(sample.rgb)
    heat = _coloured((_log_odds(scored) - scale[0]) / (scale[1] - scale[0]), "inferno")
    truth = (colour * 0.6).astype(np.uint8)
    box = _box(scored)
    panels = [_panel(p, box) for p in (colour, _depth(scored), heat, truth)]
    if sample.mask is not None and sample.mask.any():
        mask = _panel(np.repeat(sample.mask[..., None], 3, -1).astype(np.uint8) * 255, box)
        inside = (mask[..., 0] > 127).astype(np.uint8)
        lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(panels[3], lines, -1, OUTLINE, 2, cv2.LINE_AA)
    white = np.full((SIDE, GAP, 3), 255, np.uint8)
    joined = [part for panel in panels for part in (panel, white)]
    return np.concatenate(joined[:-1], axis=1)


def _depth(scored: ScoredSample) -> Picture:
    """Height over the support plane, or nearness where there is none; grey where not measured."""
    sample = scored.sample
    picture = np.full((*sample.valid.shape, 3), 221, np.uint8)
    if sample.xyz is None or not sample.valid.any():
        return picture
    assert scored.verdict.anomaly_map is not None
    plane = fit_support_plane(sample.xyz, sample.valid)
    near = -sample.xyz[..., 2] if plane is None else plane.height(sample.xyz)
    ruled = sample.valid & scored.verdict.anomaly_map.foreground
    low, high = np.quantile(near[ruled if ruled.any() else sample.valid], [0.01, 0.99])
    shown = _coloured((near - low) / max(float(high - low), 1e-9), "viridis")
    picture[sample.valid] = shown[sample.valid]
    return picture


def _box(scored: ScoredSample) -> tuple[int, int, int]:
    """Left, top and side of the square around object and defects, with a margin."""
    assert scored.verdict.anomaly_map is not None
    shown = scored.verdict.anomaly_map.foreground.copy()
    if scored.sample.mask is not None:
        shown |= scored.sample.mask
    if not shown.any():
        shown[:] = True
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    side = round(1.08 * max(int(np.ptp(rows)), int(np.ptp(columns)), 7)) + 1
    middle_x, middle_y = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    return round(middle_x - side / 2), round(middle_y - side / 2), side


def _panel(picture: Picture, box: tuple[int, int, int]) -> Picture:
    """Cut out the square, the edge going on where it leaves the frame, and resize it."""
    left, top, side = box
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    cut = np.ascontiguousarray(picture[rows][:, columns])
    how = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (SIDE, SIDE), interpolation=how), np.uint8)


def _coloured(values: NDArray[Any], name: str) -> Picture:
    return np.asarray(matplotlib.colormaps[name](np.clip(values, 0, 1), bytes=True)[..., :3])


def _bytes(rgb: NDArray[Any]) -> Picture:
    return np.asarray(np.clip(rgb * 255, 0, 255), np.uint8)


def _log_odds(scored: ScoredSample) -> NDArray[Any]:
    """Scores before their softplus; minus infinity away from the object, where scores are 0."""
    assert scored.verdict.anomaly_map is not None
    scores = np.asarray(scored.verdict.anomaly_map.scores, np.float64)
    found = np.full(scores.shape, -np.inf)
    inside = scores > 0
    found[inside] = scores[inside] + np.log(-np.expm1(-scores[inside]))
    return found


def kind_words(kind: str) -> str:
    """A kind of defect in short lines; several at once would run out of the picture on one.

    Example:
        >>> print(kind_words("bumps+colors+dents"))
        bumps + colors +
        dents
    """
    return "\n".join(wrap(kind.replace("+", " + "), KIND_WIDTH))
