"""Picture of a genotype: features, cells and head, from left to right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from matplotlib.textpath import TextPath

from chiasm.fusion.drawing_layout import (
    FUSED,
    SMALL_HEIGHT,
    Box,
    Layout,
    Line,
    Point,
    colour_of,
    lay_out,
)
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.pools import CROSS

COLOURS = {
    **dict.fromkeys(("rgb", "image"), "#d1632f"),
    **dict.fromkeys(("geometry", "series"), "#3b7ea1"),
    CROSS: "#8a6fa8",
    FUSED: "#56636b",
    "head": "#3f7f4f",
}
OTHER, INK, FRAME, EDGE = "#8a6fa8", "#25313a", "#f3f5f6", "#c9d1d6"
SENSORS = {
    "rgb": "colour image (rgb)",
    "geometry": "surface shape (geometry)",
    "image": "phase-resolved pattern (image)",
    "series": "pulse series",
    CROSS: "both sensors (cross)",
}
HEADS = {"segmentation": "anomaly map", "class": "fault class"}  # with the output of each
LABELS = {  # of features, by the part of the name after the slash
    "raw": "input pixels",
    "f4": "frozen features,\nstride 4",
    "f8": "frozen features,\nstride 8",
    "f16": "frozen features,\nstride 16",
    "normality": "residual from normal,\nall scales",
    "fine": "fine detail and its\nresidual from normal",
    "medium": "medium detail and its\nresidual from normal",
    "coarse": "coarse detail and its\nresidual from normal",
    "all": "input, all features,\nresidual from normal",
    "residual_fine": "residual from normal,\nfine scales",
    "residual_coarse": "residual from normal,\ncoarse scale",
    "distance": "distance from normal",
    "mapping_error": "error of one sensor\npredicted by the other",
    "scaled_distance": "distance from normal,\nscaled by direction",
    "agreement": "agreement of both\ndistances from normal",
    "fpfh_distance": "distance of point\nhistograms from normal",
    "evidence": "all further evidence",
    **{f"E{k}": f"encoder stage {k} of 5" for k in range(1, 6)},
    **{f"D{k}": f"decoder stage {k} of 4" for k in range(1, 5)},
    **{f"E{k}D{5 - k}": f"encoder stage {k},\ndecoder stage {5 - k}" for k in range(1, 5)},
    "layers": "encoder stages 1 to 3,\ndecoder stages 2 to 4",
    "stages": "all stages of encoder\nand decoder",
    "embedding": "tokens",
    "flow": "tokens, aligned\nby the flow",
    **{f"layer{k}": f"transformer layer {k}" for k in range(1, 5)},
    **{f"stage{k}": f"convolutional stage {k}" for k in range(1, 4)},
    "token_mean": "mean of all tokens",
    "token_class": "classes by the tokens",
    "stage_mean": "mean of stage 3",
    "stage_class": "classes by stage 3",
}
WORDS = {
    "addition": "addition",
    "concatenation": "concatenation",
    "glu": "gated linear\nunit",
    "guided_attention": "guided\nattention",
}
ORDERED = {"guided_attention": ("query", "values")}  # operations with an order of inputs
NOTES = {  # by what is in the picture
    "nodes": "concat nodes + x: the results of all nodes, joined and mixed, plus input x",
    "joins": "join: all inputs side by side, mixed pixel by pixel (1x1 convolution)",
    "guided_attention": "guided attention: every pixel of the query input averages\n"
    "the pixels of the values input that match it",
}
LARGE, SMALL, TINY = 13.0, 12.0, 11.0  # pixels


def draw_genotype(
    genotype: Genotype,
    *,
    path_svg: Path | None = None,
    path_png: Path | None = None,
    head: str = "segmentation",
) -> None:
    """Draw a genotype to SVG, PNG or both; the same genotype gives the same bytes.

    Left: the features that it reads, coloured by sensor (the part of the name before the slash).
    Middle: each cell that reaches the head, with its operations. Right: the head,
    ``"segmentation"`` or ``"class"``, and its output.
    """
    layout = lay_out(genotype)
    cells = [genotype.cells[name] for name in genotype.reachable()]
    shown = {"joins" if cell.joins else "nodes" for cell in cells}
    shown |= {node.operation for cell in cells for node in cell.nodes}
    notes = tuple(note for name, note in NOTES.items() if name in shown)
    legend = _legend_spots(layout)
    lines = max(line for _, line in legend.values()), sum(1 + note.count("\n") for note in notes)
    height = layout.height + 24.0 + 20.0 * lines[0] + 16.0 * lines[1]
    fonts = ["DejaVu Sans", "Verdana", "Helvetica", "Arial", "sans-serif"]
    style: dict[Any, Any] = {  # matplotlib types the keys as a literal of all settings
        "svg.fonttype": "none",
        "svg.hashsalt": "chiasm",
        "font.family": "sans-serif",
        "font.sans-serif": fonts,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(layout.width / 96, height / 96), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, layout.width), ylim=(height, 0))
        axes.set_axis_off()
        for box in layout.boxes.values():
            _box(axes, box, genotype, head)
        _lines(axes, layout)
        _legend(axes, layout, legend, notes)
        if path_svg is not None:
            figure.savefig(path_svg, format="svg", metadata={"Date": None})
        if path_png is not None:
            figure.savefig(path_png, format="png", dpi=192)


def _colour(name: str) -> str:
    return COLOURS.get(name, OTHER)


def _box(axes: Axes, box: Box, genotype: Genotype, head: str) -> None:
    colour = _colour(box.colour)
    x, y = box.middle
    if box.kind == "feature":
        _rounded(axes, box, colour, colour, 9)
        _feature(axes, box)
    elif box.kind == "frame":
        _rounded(axes, box, FRAME, EDGE, 10, zorder=0.5)
        position = (box.left + 14, box.top + 17)
        _text(axes, position, f"{box.name.capitalize()} cell", INK, size=13.5, bold=True, ha="left")
    elif box.kind == "node":
        cell, _, number = box.name.split(":")
        operation = genotype.cells[cell].nodes[int(number)].operation
        _rounded(axes, box, "white", COLOURS[FUSED], 7)
        sides = ORDERED.get(operation)
        if sides is not None:
            for side, offset in zip(sides, (-10, 10)):
                position = (box.left + 7, y + offset)
                _text(axes, position, side, COLOURS[FUSED], size=11.0, ha="left", italic=True)
            x += 24
        lines = WORDS.get(operation, operation.replace("_", " ")).split("\n")
        for k, line in enumerate(lines):
            _text(axes, (x, y + 15 * (k - (len(lines) - 1) / 2)), line, INK)
    elif box.kind == "join":
        _rounded(axes, box, "#dfe5e8", COLOURS[FUSED], 15)
        _text(axes, (x, y), "concat nodes + x", INK)
    elif box.kind == "bar":
        _rounded(axes, box, "#dfe5e8", COLOURS[FUSED], 9)
        count = len(genotype.cells[box.name.split(":")[0]].inputs)
        _text(axes, (x, y - 9), "join", INK, bold=True)
        _text(axes, (x, y + 9), f"{count} input{'' if count == 1 else 's'}", INK, size=SMALL)
    elif box.kind == "head":
        _rounded(axes, box, colour, colour, 9)
        _text(axes, (x, y - 8), head, "white", bold=True)
        _text(axes, (x, y + 8), "head", "white", bold=True)
    else:
        _text(axes, (x, box.top - 11), HEADS[head], INK, bold=True)
        (_bars if head == "class" else _map)(axes, box)


def _feature(axes: Axes, box: Box) -> None:
    """Draw a feature with its name and what it is; in a small box in one line each."""
    colour = _colour(box.colour)
    small = box.bottom - box.top == SMALL_HEIGHT
    _rounded(axes, box, colour, colour, 7 if small else 9)
    label = LABELS.get(box.name.split("/")[-1], "")
    lines = [label.replace("\n", " ")] if small else label.split("\n")
    x, y = box.middle
    above, size = (7.5, TINY) if small else (1.0 + 7.0 * len(lines), SMALL)
    room = box.right - box.left - 6
    name_size = _fitting(box.name, LARGE, room, bold=True)
    _text(axes, (x, y - above if label else y), box.name, "white", size=name_size, bold=True)
    for k, line in enumerate(lines if label else ()):
        position = (x, y - above + (15 if small else 16) + 14 * k)
        _text(axes, position, line, "white", size=_fitting(line, size, room))


def _fitting(text: str, size: float, room: float, *, bold: bool = False) -> float:
    """Return a size of at most ``size`` pixels at which a text fits into ``room`` pixels."""
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return size * min(1.0, room / TextPath((0, 0), text, size=size, prop=font).get_extents().width)


def _bars(axes: Axes, box: Box) -> None:
    """Sketch class probabilities with one large bar."""
    background = Rectangle((box.left, box.top), box.right - box.left, box.bottom - box.top)
    background.set(facecolor=FRAME, edgecolor=EDGE, zorder=2)
    axes.add_patch(background)
    width = (box.right - box.left - 16) / 5
    for number, share in enumerate((0.12, 0.2, 0.9, 0.08, 0.15)):
        height = share * (box.bottom - box.top - 16)
        bar = Rectangle(
            (box.left + 10 + number * width, box.bottom - 8 - height), width - 4, height
        )
        bar.set(facecolor=COLOURS["head" if share > 0.5 else FUSED], edgecolor="none", zorder=2.1)
        axes.add_patch(bar)


def _map(axes: Axes, box: Box) -> None:
    """Sketch an anomaly map: one warm spot on a cold background."""
    background = Rectangle((box.left, box.top), box.right - box.left, box.bottom - box.top)
    background.set(facecolor="#2b1c4d", edgecolor="none", zorder=2)
    axes.add_patch(background)
    x, y = box.middle
    for radius, colour in ((25, "#5b2a6f"), (19, "#a1376f"), (13, "#e0604b"), (7, "#f9c35c")):
        spot = Circle((x + 10, y + 7), radius, facecolor=colour, edgecolor="none", zorder=2.1)
        axes.add_patch(spot)


def _lines(axes: Axes, layout: Layout) -> None:
    """Draw nets one after another, each with a bright seam, so that no crossing looks joined."""
    nets: dict[str, list[Line]] = {}
    for line in layout.lines:
        nets.setdefault(line.net, []).append(line)
    for number, lines in enumerate(nets.values()):
        zorder = 1.0 + number / (len(nets) + 1)
        inside = ":" in lines[0].net and not lines[0].net.startswith("cell:")
        for line in lines:
            colour = _colour(line.colour)
            points = [*line.points[:-1], _tip_start(line.points)] if line.arrow else line.points
            seam = FRAME if inside else "white"
            _stroke(axes, points, seam, 4.6, zorder)
            _stroke(axes, points, colour, 1.6, zorder + 0.5 / (len(nets) + 1))
            if line.arrow:
                _tip(axes, line.points, colour)
    for point, colour in layout.dots():
        axes.add_patch(Circle(point, 3.0, facecolor=_colour(colour), edgecolor="none", zorder=3))
    for point, letter, colour in layout.ports:
        face = _colour(colour)
        radius = 9.0 if letter else 4.5
        axes.add_patch(Circle(point, radius, facecolor=face, edgecolor="white", lw=1, zorder=4))
        if letter:
            _text(axes, point, letter, "white", bold=True, size=SMALL)


def _stroke(
    axes: Axes, points: list[Point] | tuple[Point, ...], colour: str, width: float, zorder: float
) -> None:
    axes.plot(
        *zip(*points),
        color=colour,
        linewidth=width * 0.75,
        solid_capstyle="butt",
        solid_joinstyle="round",
        zorder=zorder,
    )


def _tip_start(points: tuple[Point, ...]) -> Point:
    """Return where the arrow's tip starts."""
    (a, b), (c, d) = points[-2:]
    length = max(abs(c - a), abs(d - b), 1.0)
    return c - 6 * (c - a) / length, d - 6 * (d - b) / length


def _tip(axes: Axes, points: tuple[Point, ...], colour: str) -> None:
    (x, y), (a, b) = points[-1], _tip_start(points)
    dx, dy = (b - y) * 4 / 6, (a - x) * 4 / 6
    start = (a + (a - x) / 3, b + (b - y) / 3)
    corners = [(x, y), (start[0] + dx, start[1] + dy), (start[0] - dx, start[1] - dy)]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="none", zorder=3))


def _legend_spots(layout: Layout) -> dict[str, tuple[float, int]]:
    """Return of each sensor, and of what is fused, the left end of its entry and its line."""
    sensors = dict.fromkeys(colour_of(b.name) for b in layout.boxes.values() if b.kind == "feature")
    spots: dict[str, tuple[float, int]] = {}
    x, line = 14.0, 0
    for name in [*sorted(sensors, reverse=True), FUSED]:
        width = 40 + 6.9 * len(SENSORS.get(name, name))
        if x > 14.0 and x + width > layout.width:
            x, line = 14.0, line + 1
        spots[name] = (x, line)
        x += width
    return spots


def _legend(
    axes: Axes, layout: Layout, spots: Mapping[str, tuple[float, int]], notes: tuple[str, ...]
) -> None:
    y = layout.height + 6.0
    for name, (x, line) in spots.items():
        middle = y + 20 * line
        spot = Box(name, "legend", x, middle - 6, x + 12, middle + 6)
        _rounded(axes, spot, _colour(name), _colour(name), 3)
        _text(axes, (x + 18, middle), SENSORS.get(name, name), INK, size=SMALL, ha="left")
    y += 20 * max(line for _, line in spots.values())
    for note in "\n".join(notes).split("\n"):
        y += 16
        _text(axes, (14, y + 4), note, COLOURS[FUSED], size=SMALL, ha="left")


def _rounded(
    axes: Axes, box: Box, face: str, edge: str, radius: float, zorder: float = 2.0
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (box.left, box.top),
            box.right - box.left,
            box.bottom - box.top,
            boxstyle=f"round,pad=0,rounding_size={radius}",
            facecolor=face,
            edgecolor=edge,
            linewidth=0.9,
            zorder=zorder,
            gid=f"{box.kind}-{box.name}",
        )
    )


def _text(
    axes: Axes,
    position: Point,
    text: str,
    colour: str,
    *,
    size: float = LARGE,
    bold: bool = False,
    italic: bool = False,
    ha: str = "center",
) -> None:
    axes.text(
        *position,
        text,
        color=colour,
        fontsize=size * 0.75,
        fontweight="bold" if bold else "normal",
        fontstyle="italic" if italic else "normal",
        ha=ha,
        va="center_baseline",
        zorder=5,
    )
