"""Pictures of detected, missed and falsely rejected parts."""

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
    """A part to show: the reason, and its four panels side by side."""

    reason: str
    sample: ScoredSample
    strip: Picture

    @property
    def kind(self) -> str:
        """``"good"``, the kind of defect, or ``"unknown"``."""
        return self.sample.sample.kind or "unknown"


def choose(scored: Sequence[ScoredSample], *, most: int = 8) -> list[tuple[str, ScoredSample]]:
    """Choose the clearest detections, then wrong decisions, then the least clear ones.

    At least half of the parts are wrong decisions, if there are so many.
    """
    pictured = [s for s in scored if s.verdict.anomaly_map is not None]
    ranked = sorted(pictured, key=lambda s: -s.verdict.score)
    bad = [s for s in ranked if s.sample.label == 1]
    good = [s for s in ranked if s.sample.label == 0]
    unknown = [s for s in ranked if s.sample.label is None]
    detected = [s for s in bad if s.verdict.defective]
    missed = [s for s in bad[::-1] if s.verdict.defective is False]
    false = [s for s in good if s.verdict.defective]
    passed = [s for s in good[::-1] if s.verdict.defective is False]
    undecided = [s for s in ranked if s.verdict.defective is None]
    clearest = list({s.sample.kind: s for s in detected[::-1]}.values())
    clearest.sort(key=lambda s: -s.verdict.score)
    candidates = [("found", s) for s in clearest[:2]]
    candidates += [("missed", s) for s in missed[:2]] + [("false alarm", s) for s in false[:2]]
    candidates += [("found, least clear", s) for s in detected[::-1][:1]]
    candidates += [("passed", s) for s in passed[:1]]
    candidates += [("alarm", s) for s in unknown if s.verdict.defective][:4]
    candidates += [("not decided", s) for s in undecided[:2] + undecided[-2:]]
    candidates += [("missed", s) for s in missed[2:]] + [("false alarm", s) for s in false[2:]]
    unique: dict[int, tuple[str, ScoredSample]] = {}
    for reason, sample in candidates:
        unique.setdefault(id(sample), (reason, sample))
    return list(unique.values())[:most]


def make_cases(scored: Sequence[ScoredSample], *, most: int = 8) -> list[Case]:
    """Draw the chosen parts with one colour scale for all anomaly maps.

    The scale runs from the median pixel of an object to nearly the largest score, in log-odds, so
    that faint defects are visible and rows are comparable.
    """
    chosen = choose(scored, most=most)
    scale = _heat_scale([scored for _, scored in chosen])
    return [Case(reason, sample, _strip(sample, scale)) for reason, sample in chosen]


def draw_gallery(cases: Sequence[Case], path: Path) -> Path | None:
    """Write all cases into one picture, one per row; return None without a case."""
    if not cases:
        return None
    # In inches: captions at the left, headings on top, strips in the rest.
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


def draw_comparison(
    rows: Sequence[tuple[str, Sequence[ScoredSample]]], models: Sequence[str]
) -> Figure:
    """Draw parts (rows) with the anomaly maps of several models beside each other.

    Each model has one colour scale for all parts; scales of different models do not compare.

    Args:
        rows: caption of a part, and what each model says about it.
        models: names of the models, in their order in ``rows``.
    """
    names = ("colour", "height", "truth", *models)
    scales = [_heat_scale([scored[number] for _, scored in rows]) for number in range(len(models))]
    figure = Figure(figsize=(1.3 * len(names) + 1.2, 1.3 * len(rows) + 0.5), layout="constrained")
    grid = figure.subplots(len(rows), len(names), squeeze=False)
    for axes_of_row, (caption, scored) in zip(grid, rows, strict=True):
        box = _box(scored[0])
        colour, truth = _colour_and_truth(scored[0], box)
        maps = [_panel(_heat(s, scale), box) for s, scale in zip(scored, scales, strict=True)]
        panels = (colour, _panel(_depth(scored[0]), box), truth, *maps)
        for axes, panel in zip(axes_of_row, panels, strict=True):
            axes.imshow(panel)
            axes.set_xticks([])
            axes.set_yticks([])
        axes_of_row[0].set_ylabel(kind_words(caption), fontsize=7, rotation=0, ha="right")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title("\n".join(wrap(name, 20)), fontsize=7)
    return figure


def _heat_scale(scored: Sequence[ScoredSample]) -> tuple[float, float]:
    """Return log-odds from the median pixel of an object to nearly the largest."""
    odds = [o[np.isfinite(o)] for o in map(_log_odds, scored)]
    non_empty = [o for o in odds if o.size]
    low = float(np.median([np.median(o) for o in non_empty])) if non_empty else 0.0
    high = max((float(np.quantile(o, 0.9995)) for o in non_empty), default=1.0)
    return low, max(high, low + 1e-6)


def _heat(scored: ScoredSample, scale: tuple[float, float]) -> Picture:
    return _coloured((_log_odds(scored) - scale[0]) / (scale[1] - scale[0]), "inferno")


def _colour_and_truth(scored: ScoredSample, box: tuple[int, int, int]) -> tuple[Picture, Picture]:
    """Return the panel of the colours, and the darkened one with the outline of the defect."""
    sample = scored.sample
    shape = (*sample.valid.shape, 3)
    colour = np.full(shape, 237, np.uint8) if sample.rgb is None else _bytes(sample.rgb)
    truth = _panel((colour * 0.6).astype(np.uint8), box)
    if sample.mask is not None and sample.mask.any():
        mask = _panel(np.repeat(sample.mask[..., None], 3, -1).astype(np.uint8) * 255, box)
        inside = (mask[..., 0] > 127).astype(np.uint8)
        lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(truth, lines, -1, OUTLINE, 2, cv2.LINE_AA)
    return _panel(colour, box), truth


def _strip(scored: ScoredSample, scale: tuple[float, float]) -> Picture:
    """Return colour, depth, map and truth, cropped to the object, side by side on white."""
    box = _box(scored)
    colour, truth = _colour_and_truth(scored, box)
    panels = [colour, _panel(_depth(scored), box), _panel(_heat(scored, scale), box), truth]
    white = np.full((SIDE, GAP, 3), 255, np.uint8)
    joined = [part for panel in panels for part in (panel, white)]
    return np.concatenate(joined[:-1], axis=1)


def _depth(scored: ScoredSample) -> Picture:
    """Return height over the support plane, or nearness without one; grey where not measured."""
    sample = scored.sample
    picture = np.full((*sample.valid.shape, 3), 221, np.uint8)
    if sample.xyz is None or not sample.valid.any():
        return picture
    assert scored.verdict.anomaly_map is not None
    plane = fit_support_plane(sample.xyz, sample.valid)
    near = -sample.xyz[..., 2] if plane is None else plane.height(sample.xyz)
    on_object = sample.valid & scored.verdict.anomaly_map.foreground
    low, high = np.quantile(near[on_object if on_object.any() else sample.valid], [0.01, 0.99])
    coloured = _coloured((near - low) / max(float(high - low), 1e-9), "viridis")
    picture[sample.valid] = coloured[sample.valid]
    return picture


def _box(scored: ScoredSample) -> tuple[int, int, int]:
    """Return left, top and side of the square around object and defects, with a margin."""
    assert scored.verdict.anomaly_map is not None
    region = scored.verdict.anomaly_map.foreground.copy()
    if scored.sample.mask is not None:
        region |= scored.sample.mask
    if not region.any():
        region[:] = True
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    side = round(1.08 * max(int(np.ptp(rows)), int(np.ptp(columns)), 7)) + 1
    middle_x, middle_y = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    return round(middle_x - side / 2), round(middle_y - side / 2), side


def _panel(picture: Picture, box: tuple[int, int, int]) -> Picture:
    """Crop the square, repeating the edge outside the frame, and resize it."""
    left, top, side = box
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    crop = np.ascontiguousarray(picture[rows][:, columns])
    interpolation = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (SIDE, SIDE), interpolation=interpolation), np.uint8)


def _coloured(values: NDArray[Any], name: str) -> Picture:
    return np.asarray(matplotlib.colormaps[name](np.clip(values, 0, 1), bytes=True)[..., :3])


def _bytes(rgb: NDArray[Any]) -> Picture:
    return np.asarray(np.clip(rgb * 255, 0, 255), np.uint8)


def _log_odds(scored: ScoredSample) -> NDArray[Any]:
    """Return scores before their softplus; minus infinity outside the object."""
    assert scored.verdict.anomaly_map is not None
    scores = np.asarray(scored.verdict.anomaly_map.scores, np.float64)
    odds = np.full(scores.shape, -np.inf)
    inside = scores > 0
    odds[inside] = scores[inside] + np.log(-np.expm1(-scores[inside]))
    return odds


def kind_words(kind: str) -> str:
    """Return a kind of defect in short lines; several kinds on one line would not fit.

    Example:
        >>> print(kind_words("bumps+colors+dents"))
        bumps + colors +
        dents
    """
    return "\n".join(wrap(kind.replace("+", " + "), KIND_WIDTH))
