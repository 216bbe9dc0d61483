"""Layout of a genotype's picture: pure data, in pixels, y downwards.

Features are at the left, cells in a row, the head at the right. Lines are orthogonal. Outside cells
they turn in the gaps between them and pass earlier cells in lanes below. Inside a cell, each input
and each reused node has a vertical track at the left of the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chiasm.fusion.genotype import CellGenotype, Genotype
from chiasm.fusion.pools import cell_output

Point = tuple[float, float]

FEATURE_WIDTH, FEATURE_HEIGHT = 156.0, 56.0
NODE_WIDTH, NODE_HEIGHT, PITCH = 130.0, 44.0, 66.0
TITLE, JOIN_HEIGHT, TRACK, PAD = 36.0, 30.0, 11.0, 14.0
HEAD_WIDTH, HEAD_HEIGHT, MAP_SIDE = 112.0, 48.0, 84.0
MARGIN, SPREAD = 14.0, 10.0  # around the picture; from the row's middle to a node's two inputs
FUSED = "fused"  # the colour of outputs of cells and nodes


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; ``kind`` is feature, frame, node, join, head or map, ``name`` is unique."""

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
    layout = Layout()
    first, second = MARGIN + TITLE + NODE_HEIGHT / 2, MARGIN + TITLE + NODE_HEIGHT / 2 + PITCH
    targets: dict[str, list[tuple[int, float]]] = {}  # reader's cell and height of its port
    for number, cell in enumerate(cells):
        for name, port in zip(genotype.cells[cell].inputs, (first, second)):
            targets.setdefault(name, []).append((number, port))
    gaps = {  # in which a net starts
        name: cells.index(name[5:]) + 1 if name.startswith("cell:") else 0 for name in targets
    }
    bottom = MARGIN + max(_cell_height(len(genotype.cells[c].nodes)) for c in cells)
    heights, lanes = _heights(targets, gaps, bottom)
    for name, height in heights.items():
        top, right = height - FEATURE_HEIGHT / 2, MARGIN + FEATURE_WIDTH
        sensor = colour_of(name)
        layout.add(Box(name, "feature", MARGIN, top, right, top + FEATURE_HEIGHT, sensor))
    x = MARGIN + FEATURE_WIDTH
    starts = {name: (x, height) for name, height in heights.items()}
    tracks: list[dict[str, float]] = []  # per gap: x at which each net turns
    for number, cell in enumerate(cells):
        turning = [
            name
            for name, ports in sorted(
                targets.items(), key=lambda item: _port_height(item[1], number)
            )
            if _turns(ports, number, gaps[name], starts.get(name), lanes.get(name))
        ]
        tracks.append({name: x + 13.0 + 11.0 * k for k, name in enumerate(turning)})
        x += 36.0 + 11.0 * max(0, len(turning) - 1)
        frame, start = _add_cell(layout, cell, genotype.cells[cell], x)
        starts[cell_output(cell)] = start
        for name, port in zip(genotype.cells[cell].inputs, (first, second)):
            source = name.removeprefix("cell:")
            leave, turn = tracks[gaps[name]].get(name), tracks[number].get(name)
            points = _route(starts[name], leave, lanes.get(name), turn, (frame.left, port))
            layout.lines.append(Line(name, source, cell, points, colour_of(name)))
        x = frame.right
    _add_head(layout, cells[-1], starts[cell_output(cells[-1])])
    layout.width = max(b.right for b in layout.boxes.values()) + MARGIN
    bottoms = [b.bottom for b in layout.boxes.values()] + list(lanes.values())
    layout.height = max(bottoms) + MARGIN
    return layout


def _heights(
    targets: dict[str, list[tuple[int, float]]], gaps: dict[str, int], bottom: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the heights of the features, and of the lanes for nets that pass a cell.

    Features of the first cell are at its ports, others at the height of their lanes.
    """
    heights: dict[str, float] = {}
    lanes: dict[str, float] = {}
    lane, low = bottom + 4.0, MARGIN + TITLE + NODE_HEIGHT / 2 + PITCH
    ordered = sorted(targets, key=lambda name: targets[name])
    for name in ordered:
        at_port = gaps[name] > 0 or targets[name][0][0] == 0
        if at_port and gaps[name] == 0:
            heights[name] = targets[name][0][1]
        if at_port and targets[name][-1][0] > gaps[name]:
            lane += 12.0
            lanes[name] = lane
    for name in ordered:
        if gaps[name] == 0 and name not in heights:
            lane = low = max(low + PITCH, lane + 12.0)
            lanes[name] = heights[name] = lane
    return heights, lanes


def _turns(
    ports: Sequence[tuple[int, float]],
    gap: int,
    first_gap: int,
    start: Point | None,
    lane: float | None,
) -> bool:
    """Whether a net that starts in ``first_gap`` needs a track in the gap before a cell."""
    heights = [height for number, height in ports if number == gap]
    if gap != first_gap or start is None:
        return bool(heights)
    return any(height != start[1] for height in (*heights, *([] if lane is None else [lane])))


def _route(
    start: Point, leave: float | None, lane: float | None, turn: float | None, end: Point
) -> tuple[Point, ...]:
    """Route to a port: straight, by one turn, or down at ``leave``, along a lane and up again."""
    if turn is None or (leave == turn and start[1] == end[1]):
        return start, end
    if lane is None or leave is None or leave == turn:
        return start, (turn, start[1]), (turn, end[1]), end
    return start, (leave, start[1]), (leave, lane), (turn, lane), (turn, end[1]), end


def _add_cell(layout: Layout, cell: str, parts: CellGenotype, left: float) -> tuple[Box, Point]:
    """Place a cell's frame, nodes, join and inner lines; return the frame and the output port."""
    count = len(parts.nodes)
    rows = [MARGIN + TITLE + NODE_HEIGHT / 2 + PITCH * k for k in range(count)]
    first = MARGIN + TITLE + NODE_HEIGHT / 2
    ports = {"x": first, "y": first + PITCH}
    bottom = MARGIN + _cell_height(count)
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
