"""Draw the pictures of ``docs/explanation/promise.md``; all that they show is computed here.

``python tools/draw_promise.py`` writes them as SVG whose colours suit light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "docs/explanation/images"
NORMAL, ALARM, QUIET = "#3b7ea1", "#c4501b", "#8c979f"
RATE = 0.05


def draw_scores(parts: int = 39, seed: int = 4) -> str:
    """Return calibration scores as points, the threshold, and three new parts with p-values."""
    scores = np.sort(np.random.default_rng(seed).gamma(9.0, 0.04, parts))
    rank = int(np.ceil((1 - RATE) * (parts + 1)))
    threshold = float(scores[rank - 1])
    new = {"a": 0.30, "b": float(scores[-4]) + 0.002, "c": threshold + 0.14}

    def x(score: float) -> float:
        return 40 + 640 * score / 0.85

    shapes = [_line(40, 92, 700, 92, QUIET, 1)]
    shapes += [
        f'<circle cx="{x(s):.1f}" cy="92" r="5" fill="{NORMAL}" fill-opacity="0.55"/>'
        for s in scores
    ]
    shapes.append(_line(x(threshold), 30, x(threshold), 150, ALARM, 2))
    shapes.append(_text(x(threshold) + 6, 40, "threshold", ALARM))
    for name, score in new.items():
        above = int((scores >= score).sum())
        p = (1 + above) / (1 + parts)
        colour = ALARM if score > threshold else NORMAL
        shapes.append(
            f'<path d="M {x(score):.1f} 102 l -7 14 h 14 z" fill="{colour}" stroke="{colour}"/>'
        )
        shapes.append(_text(x(score), 134, f"{name}: p = {p:.3f}", colour, middle=True))
    shapes.append(_text(40, 20, f"{parts} calibration parts (dots) and three new parts", QUIET))
    shapes.append(_text(700, 165, "score →", QUIET, end=True))
    return _svg(740, 176, shapes)


def draw_calibrations(draws: int = 200_000, seed: int = 0) -> str:
    """Return how the false-alarm rate of one calibration spreads, by the number of its parts.

    The rate of one calibration with ``n`` parts whose threshold is the score of rank ``r`` is
    Beta(n + 1 - r, r) distributed (Vovk, Conditional validity of inductive conformal predictors,
    2012).
    """
    rng = np.random.default_rng(seed)
    shapes = [_text(40, 20, "false-alarm rate of one calibration at 5 %: middle 80 %, mean", QUIET)]

    def x(rate: float) -> float:
        return 150 + 540 * rate / 0.16

    for row, parts in enumerate((20, 45, 100, 400)):
        y = 56 + 34 * row
        rank = int(np.ceil((1 - RATE) * (parts + 1)))
        rates = rng.beta(parts + 1 - rank, rank, draws)
        low, high = np.quantile(rates, [0.1, 0.9])
        shapes.append(_text(140, y + 4, f"{parts} parts", QUIET, end=True))
        shapes.append(_line(x(low), y, x(high), y, NORMAL, 8))
        shapes.append(f'<circle cx="{x(rates.mean()):.1f}" cy="{y}" r="5" fill="{ALARM}"/>')
        shapes.append(_text(x(high) + 8, y + 4, f"{low:.1%} to {high:.1%}", QUIET))
    bottom = 56 + 34 * 4
    shapes.append(_line(x(RATE), 36, x(RATE), bottom - 8, ALARM, 1))
    for tick in (0.0, 0.05, 0.1, 0.15):
        shapes.append(_text(x(tick), bottom + 8, f"{tick:.0%}", QUIET, middle=True))
    return _svg(740, bottom + 20, shapes)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-linecap="round"/>'
    )


def _text(
    x: float, y: float, words: str, colour: str, *, middle: bool = False, end: bool = False
) -> str:
    anchor = "middle" if middle else "end" if end else "start"
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'


def _svg(width: int, height: int, shapes: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">\n' + "\n".join(shapes) + "\n</svg>\n"
    )


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "promise.svg").write_text(draw_scores())
    (FOLDER / "calibrations.svg").write_text(draw_calibrations())
