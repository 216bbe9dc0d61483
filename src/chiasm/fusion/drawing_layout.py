"""Layout of a genotype's picture: pure data, in pixels, y downwards.

Features are at the left, cells in a row, the head at the right. Lines are orthogonal. Outside cells
they turn in the gaps between them and pass earlier cells in lanes below. Inside a cell, each input
and each reused node has a vertical track at the left of the nodes.

A cell that joins is a tall bar with a port for each input. Where it is the last one, its ports
stand at the heights of the lines, which run straight from small boxes of features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from chiasm.fusion.genotype import CellGenotype, Genotype
from chiasm.fusion.pools import cell_output

Point = tuple[float, float]

FEATURE_WIDTH, FEATURE_HEIGHT = 156.0, 56.0
NODE_WIDTH, NODE_HEIGHT, PITCH = 130.0, 44.0, 66.0
TITLE, JOIN_HEIGHT, TRACK, PAD = 36.0, 30.0, 11.0, 14.0
HEAD_WIDTH, HEAD_HEIGHT, MAP_SIDE = 112.0, 48.0, 84.0
MARGIN, SPREAD = 14.0, 10.0  # around the picture; from the row's middle to a node's two inputs
FIRST = MARGIN + TITLE + NODE_HEIGHT / 2  # height of the first port of a cell with nodes
SMALL_WIDTH, SMALL_HEIGHT = (
    216.0,
    36.0,
)  # of features in a picture with a join, and of those it reads
BAR_WIDTH, BAR_END, JOIN_PITCH = 116.0, 22.0, 42.0
JOIN_FIRST = FIRST + 15.0  # its ports keep off the heights of the outputs of other cells
HEAD_ROOM = MARGIN + 150.0  # the least height of the head, which has its picture above
LANE = 12.0
FLOATING = math.inf  # height of a port that stands where its line comes along
FUSED = "fused"  # the colour of outputs of cells and nodes


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; ``kind`` is feature, frame, node, join, bar, head or map; names are unique."""

    name: str
    kind: str
    left: float
    top: float
    right: float
    bottom: float
    colour: str = FUSED

    @property
    def middle(self) -> Point:
        """The centre."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class Line:
    """An orthogonal line from a box to a box; lines of one ``net`` carry the same map."""

    net: str
    source: str
    target: str
    points: tuple[Point, ...]
    colour: str
    arrow: bool = True


@dataclass(slots=True)
class Layout:
    """All elements of the picture; ``ports`` are points with a letter on a frame's edge."""

    boxes: dict[str, Box] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    ports: list[tuple[Point, str, str]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0

    def add(self, box: Box) -> Box:
        """Place a box."""
        self.boxes[box.name] = box
        return box

    def dots(self) -> list[tuple[Point, str]]:
        """Return the branching points: lines of one net meet there in more than two directions."""
        rays: dict[tuple[str, Point], set[Point]] = {}
        colours = {line.net: line.colour for line in self.lines}
        for line in self.lines:
            corners = [
                p for other in self.lines if other.net == line.net for p in other.points[1:-1]
            ]
            for a, b in zip(line.points, line.points[1:]):
                for p in corners:
                    if not _between(p, a, b):
                        continue
                    directions = rays.setdefault((line.net, p), set())
                    directions |= {_direction(p, end) for end in (a, b) if end != p}
        return sorted((p, colours[net]) for (net, p), rays_of in rays.items() if len(rays_of) > 2)


def colour_of(name: str) -> str:
    """Return the sensor of a feature, the part before the slash; ``fused`` for a cell's output."""
    return FUSED if name.startswith("cell:") else name.split("/")[0]


def lay_out(genotype: Genotype) -> Layout:
    """Place the features, cells and head of a genotype that reach the anomaly map."""
    cells = genotype.reachable()
    parts = [genotype.cells[cell] for cell in cells]
    layout = Layout()
    ports = [_ports(part, floating=part is parts[-1]) for part in parts]
    gaps = {  # in which a net starts
        name: cells.index(name[5:]) + 1 if name.startswith("cell:") else 0
        for inputs in ports
        for name, _ in inputs
    }
    sizes = {name: _size(parts, name) for name in gaps if not name.startswith("cell:")}
    heights, lanes = _heights(ports, gaps, sizes, bottom=max(map(_bottom, parts[:-1]), default=0.0))
    if parts[-1].joins:
        ports[-1] = [
            (name, lanes[name] if name in lanes else _output(parts[gaps[name] - 1]))
            for name, _ in ports[-1]
        ]
    targets = _targets(ports)
    for name, height in heights.items():
        width, tall = sizes[name]
        top, sensor = height - tall / 2, colour_of(name)
        layout.add(Box(name, "feature", MARGIN, top, MARGIN + width, top + tall, sensor))
    x = MARGIN + max(width for width, _ in sizes.values())
    starts = {name: (x, height) for name, height in heights.items()}
    tracks: list[dict[str, float]] = []  # per gap: x at which each net turns
    for number, cell in enumerate(cells):
        turning = [
            name
            for name, goals in sorted(
                targets.items(), key=lambda item: _port_height(item[1], number)
            )
            if name in starts
            and _turns(goals, number, gaps[name], starts[name][1], lanes.get(name))
        ]
        tracks.append({name: x + 13.0 + 11.0 * k for k, name in enumerate(turning)})
        x += 36.0 + 11.0 * max(0, len(turning) - 1)
        if parts[number].joins:
            frame, start = _add_join(layout, cell, ports[number], x, alone=len(cells) == 1)
        else:
            frame, start = _add_cell(layout, cell, parts[number], ports[number], x)
        starts[cell_output(cell)] = start
        for name, port in ports[number]:
            bends = [(tracks[number].get(name, x), port)]
            if gaps[name] < number:
                bends.insert(0, (tracks[gaps[name]].get(name, x), lanes[name]))
            points = _route(starts[name], bends, (frame.left, port))
            source = name.removeprefix("cell:")
            arrow = not parts[number].joins  # its ports are too small and close for tips
            layout.lines.append(Line(name, source, cell, points, colour_of(name), arrow))
        x = frame.right
    _add_head(layout, cells[-1], starts[cell_output(cells[-1])])
    layout.width = max(b.right for b in layout.boxes.values()) + MARGIN
    bottoms = [b.bottom for b in layout.boxes.values()] + list(lanes.values())
    layout.height = max(bottoms) + MARGIN
    return layout


def _ports(cell: CellGenotype, *, floating: bool) -> list[tuple[str, float]]:
    """Return the inputs of a cell, from above, with the heights of their ports.

    A join has outputs of earlier cells above, then features by sensor.
    """
    if not cell.joins:
        return list(zip(cell.inputs, (FIRST, FIRST + PITCH)))
    sensors = list(dict.fromkeys(colour_of(name) for name in cell.inputs))
    order = [FUSED, *(sensor for sensor in sensors if sensor != FUSED)]
    inputs = sorted(cell.inputs, key=lambda name: order.index(colour_of(name)))
    return [
        (name, FLOATING if floating else JOIN_FIRST + JOIN_PITCH * k)
        for k, name in enumerate(inputs)
    ]


def _targets(ports: Sequence[Sequence[tuple[str, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Return of each net the cells that read it, with the heights of their ports."""
    targets: dict[str, list[tuple[int, float]]] = {}
    for number, inputs in enumerate(ports):
        for name, height in inputs:
            targets.setdefault(name, []).append((number, height))
    return targets


def _size(cells: Sequence[CellGenotype], name: str) -> tuple[float, float]:
    """Return width and height of a feature's box: small ones where joins alone read it."""
    if not any(cell.joins for cell in cells):
        return FEATURE_WIDTH, FEATURE_HEIGHT
    dense = cells[0].joins and name in cells[0].inputs
    read = any(name in cell.inputs for cell in cells if not cell.joins)
    return SMALL_WIDTH, FEATURE_HEIGHT if read and not dense else SMALL_HEIGHT


def _heights(
    ports: Sequence[Sequence[tuple[str, float]]],
    gaps: dict[str, int],
    sizes: dict[str, tuple[float, float]],
    *,
    bottom: float,
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the heights of the features, and of the lanes for nets that pass a cell.

    Features of the first cell are at its ports, others at the height of their lanes. Where the only
    cell joins, its features are around the height of the head, or begin at the top.
    """
    heights: dict[str, float] = {}
    lanes: dict[str, float] = {}
    targets = _targets(ports)
    order = {name: k for k, name in enumerate(name for name, _ in ports[-1])}
    ordered = sorted(targets, key=lambda name: (targets[name], order.get(name, 0)))
    lane, low, above = bottom + 4.0, 0.0, ""
    for name in ordered:
        number, height = targets[name][0]
        at_port = number == 0 and height != FLOATING
        if at_port:
            heights[name] = height
            if height > low:
                low, above = height, name
        if (at_port or gaps[name] > 0) and targets[name][-1][0] > gaps[name]:
            lane += LANE
            lanes[name] = lane
    column = [name for name in ordered if gaps[name] == 0 and name not in heights]
    if not heights:
        low = _first_height([_distance(a, b, sizes) for a, b in pairwise(column)])
    for name in column:
        if above:
            low += _distance(above, name, sizes)
        above = name
        lane = low = max(low, lane + LANE)
        lanes[name] = heights[name] = lane
    return heights, lanes


def _distance(above: str, below: str, sizes: dict[str, tuple[float, float]]) -> float:
    """Return the distance of two features' middles; sensors stand a little apart."""
    halves = [sizes[name][1] / 2 for name in (above, below)]
    gap = 6.0 if max(halves) == SMALL_HEIGHT / 2 else PITCH - FEATURE_HEIGHT
    return sum(halves) + gap + (8.0 if colour_of(above) != colour_of(below) else 0.0)


def _first_height(distances: Sequence[float]) -> float:
    """Return the height of the first of some features that only one join reads."""
    return max(MARGIN + TITLE + BAR_END, HEAD_ROOM - sum(distances) / 2)


def _turns(
    ports: Sequence[tuple[int, float]],
    gap: int,
    first_gap: int,
    start: float,
    lane: float | None,
) -> bool:
    """Whether a net that starts in ``first_gap`` at a height needs a track before a cell."""
    heights = [height for number, height in ports if number == gap]
    if gap == first_gap:
        goals = heights if lane is None else [*heights, lane]
        return any(height != start for height in goals)
    return any(height != lane for height in heights)


def _route(start: Point, bends: Sequence[tuple[float, float]], end: Point) -> tuple[Point, ...]:
    """Route to a port: level, and at each bend's track to another height where that differs."""
    points = [start]
    for track, height in bends:
        if height != points[-1][1]:
            points += [(track, points[-1][1]), (track, height)]
    return (*points, end)


def _bottom(cell: CellGenotype) -> float:
    """Return the bottom of the frame of a cell whose ports have fixed heights."""
    if not cell.joins:
        return MARGIN + _cell_height(len(cell.nodes))
    return _bar([height for _, height in _ports(cell, floating=False)]).bottom + PAD


def _output(cell: CellGenotype) -> float:
    """Return the height of the output of a cell whose ports have fixed heights."""
    if cell.joins:
        return _bar([height for _, height in _ports(cell, floating=False)]).output
    return _bottom(cell) - PAD - JOIN_HEIGHT / 2


class _Bar(NamedTuple):
    """Heights of a join's bar: its top, its output and its bottom."""

    top: float
    output: float
    bottom: float


def _bar(ports: Sequence[float], *, alone: bool = False) -> _Bar:
    """Return the bar of a join, given the heights of its ports; that of an only cell fits closely.

    The output of another lies between two ports, so that lines of one height never meet.
    """
    bottom = max(ports) + BAR_END
    if alone:
        top = min(ports) - BAR_END
        return _Bar(top, (top + bottom) / 2, bottom)
    top = MARGIN + TITLE
    steps = max(2, round(((top + bottom) / 2 - JOIN_FIRST) / JOIN_PITCH - 0.5))
    output = JOIN_FIRST + JOIN_PITCH * (steps + 0.5)
    return _Bar(top, output, max(bottom, output + BAR_END))


def _add_join(
    layout: Layout,
    cell: str,
    inputs: Sequence[tuple[str, float]],
    left: float,
    *,
    alone: bool,
) -> tuple[Box, Point]:
    """Place the frame and the bar of a cell that joins; return the frame and the output port."""
    top, output, bottom = _bar([height for _, height in inputs], alone=alone)
    bar_left = left + 30.0
    bar_right = bar_left + BAR_WIDTH
    frame = layout.add(Box(cell, "frame", left, top - TITLE, bar_right + 22.0, bottom + PAD))
    layout.add(Box(f"{cell}:join", "bar", bar_left, top, bar_right, bottom))
    for name, height in inputs:
        points = ((left, height), (bar_left, height))
        colour = colour_of(name)
        layout.lines.append(Line(f"{cell}:{name}", cell, f"{cell}:join", points, colour))
        layout.ports.append(((left, height), "", colour))
    end = (frame.right, output)
    layout.lines.append(
        Line(f"{cell}:out", f"{cell}:join", cell, ((bar_right, output), end), FUSED, False)
    )
    layout.ports.append((end, "", FUSED))
    return frame, end


def _add_cell(
    layout: Layout,
    cell: str,
    parts: CellGenotype,
    inputs: Sequence[tuple[str, float]],
    left: float,
) -> tuple[Box, Point]:
    """Place a cell's frame, nodes, join and inner lines; return the frame and the output port."""
    count = len(parts.nodes)
    rows = [FIRST + PITCH * k for k in range(count)]
    ports = {letter: height for letter, (_, height) in zip("xy", inputs)}
    bottom = _bottom(parts)
    joined = bottom - PAD - JOIN_HEIGHT / 2
    readers: dict[str, list[tuple[str, float]]] = {
        "y": [],
        "x": [],
    }  # reader and height of its port
    for k, node in enumerate(parts.nodes):
        for name, height in zip(node.inputs, (rows[k] - SPREAD, rows[k] + SPREAD)):
            readers.setdefault(name, []).append((f"{cell}:node:{k}", height))
    readers["x"].append((f"{cell}:join", joined))
    starts = {f"node:{k}": row + PITCH / 2 for k, row in enumerate(rows)} | ports
    order = _tracks({name: (starts[name], ends[-1][1]) for name, ends in readers.items() if ends})
    tracks_width = 9.0 + TRACK * (1 + max(order.values()))
    box_left = left + tracks_width + 25.0
    box_right = box_left + NODE_WIDTH
    bus = box_right + 11.0
    frame = layout.add(Box(cell, "frame", left, MARGIN, bus + 22.0, bottom))
    for k, row in enumerate(rows):
        half = NODE_HEIGHT / 2
        layout.add(Box(f"{cell}:node:{k}", "node", box_left, row - half, box_right, row + half))
        points: tuple[Point, ...] = ((box_right, row), (bus, row), (bus, joined - JOIN_HEIGHT / 2))
        layout.lines.append(
            Line(f"{cell}:bus", f"{cell}:node:{k}", f"{cell}:join", points, FUSED, k == count - 1)
        )
    half = JOIN_HEIGHT / 2
    join = Box(f"{cell}:join", "join", box_left, joined - half, bus + 10.0, joined + half)
    layout.add(join)
    for name, ends in readers.items():
        track = left + 18.0 + TRACK * order.get(name, 0)
        for target, height in ends:
            if name in ports:
                start, source = (left, ports[name]), cell
                points = (start, (track, start[1]), (track, height), (box_left, height))
                colour = colour_of(parts.inputs[0 if name == "x" else 1])
            else:
                row, source = rows[int(name[5:])], f"{cell}:{name}"
                exit_x, gap_y = box_left + 16.0, row + PITCH / 2
                points = (
                    (exit_x, row + NODE_HEIGHT / 2),
                    *((exit_x, gap_y), (track, gap_y), (track, height)),
                    (box_left, height),
                )
                colour = FUSED
            layout.lines.append(Line(f"{cell}:{name}", source, target, points, colour))
    end = (frame.right, joined)
    layout.lines.append(
        Line(f"{cell}:out", join.name, cell, ((join.right, joined), end), FUSED, False)
    )
    for (letter, height), name in zip(ports.items(), parts.inputs):
        layout.ports.append(((left, height), letter, colour_of(name)))
    layout.ports.append((end, "", FUSED))
    return frame, end


def _add_head(layout: Layout, cell: str, start: Point) -> None:
    left, height = start[0] + 28.0, start[1]
    right, top = left + HEAD_WIDTH, height - HEAD_HEIGHT / 2
    layout.add(Box("head", "head", left, top, right, height + HEAD_HEIGHT / 2, "head"))
    layout.lines.append(Line(cell_output(cell), cell, "head", (start, (left, height)), FUSED))
    middle, foot = (left + right) / 2, top - 26.0
    side = MAP_SIDE / 2
    layout.add(Box("map", "map", middle - side, foot - 2 * side, middle + side, foot, "head"))
    layout.lines.append(Line("map", "head", "map", ((middle, top), (middle, foot)), "head"))


def _cell_height(nodes: int) -> float:
    last = TITLE + NODE_HEIGHT / 2 + PITCH * (nodes - 1)
    second = TITLE + NODE_HEIGHT / 2 + PITCH
    return max(last + 56.0, second + 26.0) + JOIN_HEIGHT / 2 + PAD


def _port_height(ports: Sequence[tuple[int, float]], gap: int) -> float:
    """Return the height of the port that a net reaches through a gap; 0 if it only passes."""
    return min((height for number, height in ports if number == gap), default=0.0)


def _tracks(spans: dict[str, tuple[float, float]]) -> dict[str, int]:
    """Assign tracks so that no two nets on one overlap: y, x, then outwards by length."""
    tracks = {"y": 0, "x": 1}
    nodes = sorted((s for s in spans if s not in tracks), key=lambda s: spans[s][0] - spans[s][1])
    for name in nodes:
        track = 2
        while any(
            tracks[o] == track and spans[o][0] < spans[name][1] and spans[name][0] < spans[o][1]
            for o in tracks
            if o in nodes
        ):
            track += 1
        tracks[name] = track
    return tracks


def _between(p: Point, a: Point, b: Point) -> bool:
    low, high = sorted((a, b))
    return low[0] <= p[0] <= high[0] and low[1] <= p[1] <= high[1]


def _direction(p: Point, q: Point) -> Point:
    return float((q[0] > p[0]) - (q[0] < p[0])), float((q[1] > p[1]) - (q[1] < p[1]))
