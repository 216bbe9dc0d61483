"""A genotype as a picture that a person understands: features, cells, head, left to right."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from chiasm.fusion.genotype import Genotype

COLOURS = {"rgb": "#d1632f", "geometry": "#3b7ea1"}
CELL_COLOUR, HEAD_COLOUR = "#5b6b73", "#4d8f5b"


def draw_genotype(
    genotype: Genotype, *, path_svg: Path | None = None, path_png: Path | None = None
) -> None:
    """Draw a genotype to SVG, PNG or both.

    Left: the features that are used, coloured by sensor (the part of the name before the slash).
    Middle: one box per cell with its operations in words. Right: the segmentation head.
    """
    reachable = genotype.reachable()
    used = list(
        dict.fromkeys(
            name
            for cell in reachable
            for name in genotype.cells[cell].inputs
            if not name.startswith("cell:")
        )
    )
    tall = max(len(used), 2, max(len(genotype.cells[c].nodes) for c in reachable))
    figure = Figure(figsize=(3.4 + 3.3 * len(reachable), 0.9 + 0.75 * tall), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    middle = (tall - 1) / 2
    places: dict[str, tuple[float, float]] = {}
    for number, name in enumerate(used):
        y = middle + (len(used) - 1) / 2 - number
        _box(axes, 0.0, y, 1.7, 0.55, name, COLOURS.get(name.split("/")[0], CELL_COLOUR))
        places[name] = (0.85, y)
    for column, cell in enumerate(reachable):
        x = 3.2 + 3.1 * column
        parts = genotype.cells[cell]
        lines = [f"{cell} cell"]
        lines += [f"x = {parts.inputs[0]}", f"y = {parts.inputs[1]}"]
        lines += [
            f"n{k} = {node.operation.replace('_', ' ')}({', '.join(map(_short, node.inputs))})"
            for k, node in enumerate(parts.nodes)
        ]
        high = 0.34 * len(lines) + 0.25
        _box(axes, x, middle, 2.6, high, "\n".join(lines), CELL_COLOUR, size=7.5)
        for side, name in enumerate(parts.inputs):
            start = places[name]
            end = (x - 1.3, middle + 0.18 - 0.36 * side)
            bend = 0.0 if abs(start[1] - end[1]) < 0.5 else 0.08
            if name in used and column:  # pass below the cells in between
                bend = 0.3
            _arrow(axes, start, end, bend)
        places[f"cell:{cell}"] = (x + 1.3, middle)
    last = 3.2 + 3.1 * (len(reachable) - 1)
    _box(axes, last + 2.7, middle, 1.5, 0.9, "segmentation\nhead", HEAD_COLOUR)
    _arrow(axes, (last + 1.3, middle), (last + 1.95, middle), 0.0)
    axes.set_xlim(-1.0, last + 3.6)
    axes.set_ylim(-0.8, tall - 0.2)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "chiasm"}):
        if path_svg is not None:
            figure.savefig(path_svg, format="svg", metadata={"Date": None})
        if path_png is not None:
            figure.savefig(path_png, format="png", dpi=140)


def _box(
    axes: Axes,
    x: float,
    y: float,
    wide: float,
    high: float,
    text: str,
    colour: str,
    size: float = 9,
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - wide / 2, y - high / 2),
            wide,
            high,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=colour,
            edgecolor="none",
            alpha=0.95,
            zorder=2,
        )
    )
    axes.text(x, y, text, ha="center", va="center", color="white", fontsize=size, zorder=3)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float) -> None:
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": "#8a979e",
            "linewidth": 1.2,
            "connectionstyle": f"arc3,rad={bend}",
        },
        zorder=1,
    )


def _short(name: str) -> str:
    return name.replace("node:", "n")
