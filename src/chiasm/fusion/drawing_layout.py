"""Where everything of a genotype's picture stands: pure data, in pixels, y downwards.

Features stand at the left, cells beside each other, the head at the right. Lines are orthogonal.
Outside, they turn in the gaps between the cells and pass earlier cells in lanes below them. Inside
a cell, each input and each reused node has a vertical track at the left of the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chiasm.fusion.genotype import CellGenotype, Genotype
from chiasm.fusion.pools import cell_output

Point = tuple[float, float]

FEATURE_WIDE, FEATURE_HIGH = 156.0, 56.0
NODE_WIDE, NODE_HIGH, PITCH = 130.0, 44.0, 66.0
TITLE, JOIN_HIGH, TRACK, PAD = 36.0, 30.0, 11.0, 14.0
HEAD_WIDE, HEAD_HIGH, MAP_SIDE = 112.0, 48.0, 84.0
MARGIN, APART = 14.0, 10.0  # around the picture; from the row's middle to a node's two inputs
FUSED = "fused"  # the colour of what comes from a cell or a node


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
        """Its centre."""
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
    """The whole picture; ``ports`` are points with a letter on a frame's edge."""

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
        """Where lines of one net part: they meet there in more than two directions."""
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
                    here = rays.setdefault((line.net, p), set())
                    here |= {_direction(p, end) for end in (a, b) if end != p}
        return sorted((p, colours[net]) for (net, p), ways in rays.items() if len(ways) > 2)


def colour_of(name: str) -> str:
    """The sensor of a feature, the part before the slash; ``fused`` for a cell's output."""
    return FUSED if name.startswith("cell:") else name.split("/")[0]


def lay_out(genotype: Genotype) -> Layout:
    """Place the features, cells and head of a genotype that reach the anomaly map."""
    cells = genotype.reachable()
    layout = Layout()
    first, second = MARGIN + TITLE + NODE_HIGH / 2, MARGIN + TITLE + NODE_HIGH / 2 + PITCH
    targets: dict[str, list[tuple[int, float]]] = {}  # who takes it: cell and height of the port
    for number, cell in enumerate(cells):
        for name, port in zip(genotype.cells[cell].inputs, (first, second)):
            targets.setdefault(name, []).append((number, port))
    own = {  # the gap that it comes out in
        name: cells.index(name[5:]) + 1 if name.startswith("cell:") else 0 for name in targets
    }
    bottom = MARGIN + max(_cell_high(len(genotype.cells[c].nodes)) for c in cells)
    heights, lanes = _heights(targets, own, bottom)
    for name, height in heights.items():
        top, right = height - FEATURE_HIGH / 2, MARGIN + FEATURE_WIDE
        sensor = colour_of(name)
        layout.add(Box(name, "feature", MARGIN, top, right, top + FEATURE_HIGH, sensor))
    x = MARGIN + FEATURE_WIDE
    starts = {name: (x, height) for name, height in heights.items()}
    tracks: list[dict[str, float]] = []  # per gap: where each net turns
    for number, cell in enumerate(cells):
        turning = [
            name
            for name, ports in sorted(targets.items(), key=lambda item: _highest(item[1], number))
            if _turns(ports, number, own[name], starts.get(name), lanes.get(name))
        ]
        tracks.append({name: x + 13.0 + 11.0 * k for k, name in enumerate(turning)})
        x += 36.0 + 11.0 * max(0, len(turning) - 1)
        frame, start = _add_cell(layout, cell, genotype.cells[cell], x)
        starts[cell_output(cell)] = start
        for name, port in zip(genotype.cells[cell].inputs, (first, second)):
            source = name.removeprefix("cell:")
            leave, turn = tracks[own[name]].get(name), tracks[number].get(name)
            points = _route(starts[name], leave, lanes.get(name), turn, (frame.left, port))
            layout.lines.append(Line(name, source, cell, points, colour_of(name)))
        x = frame.right
    _add_head(layout, cells[-1], starts[cell_output(cells[-1])])
    layout.width = max(b.right for b in layout.boxes.values()) + MARGIN
    deep = [b.bottom for b in layout.boxes.values()] + list(lanes.values())
    layout.height = max(deep) + MARGIN
    return layout


def _heights(
    targets: dict[str, list[tuple[int, float]]], own: dict[str, int], bottom: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Heights of the features, and of the lanes below the cells for what passes a cell.

    Features of the first cell stand at its ports, others each at the height of its lane.
    """
    heights: dict[str, float] = {}
    lanes: dict[str, float] = {}
    lane, low = bottom + 4.0, MARGIN + TITLE + NODE_HIGH / 2 + PITCH
    ordered = sorted(targets, key=lambda name: targets[name])
    for name in ordered:
        at_port = own[name] > 0 or targets[name][0][0] == 0
        if at_port and own[name] == 0:
            heights[name] = targets[name][0][1]
        if at_port and targets[name][-1][0] > own[name]:
            lane += 12.0
            lanes[name] = lane
    for name in ordered:
        if own[name] == 0 and name not in heights:
            lane = low = max(low + PITCH, lane + 12.0)
            lanes[name] = heights[name] = lane
    return heights, lanes


def _turns(
    ports: Sequence[tuple[int, float]], gap: int, own: int, start: Point | None, lane: float | None
) -> bool:
    """Whether a net needs a track in the gap before a cell; ``own`` is the gap it comes out in."""
    taken = [height for number, height in ports if number == gap]
    if gap != own or start is None:
        return bool(taken)
    away = [*taken, *([] if lane is None else [lane])]
    return any(height != start[1] for height in away)


def _route(
    start: Point, leave: float | None, lane: float | None, turn: float | None, end: Point
) -> tuple[Point, ...]:
    """To a cell's port: straight, by one turn, or down at ``leave``, along a lane and up again."""
    if turn is None or (leave == turn and start[1] == end[1]):
        return start, end
    if lane is None or leave is None or leave == turn:
        return start, (turn, start[1]), (turn, end[1]), end
    return start, (leave, start[1]), (leave, lane), (turn, lane), (turn, end[1]), end


def _add_cell(layout: Layout, cell: str, parts: CellGenotype, left: float) -> tuple[Box, Point]:
    """Place a cell's frame, nodes, join and inner lines; return the frame and the output port."""
    count = len(parts.nodes)
    rows = [MARGIN + TITLE + NODE_HIGH / 2 + PITCH * k for k in range(count)]
    first = MARGIN + TITLE + NODE_HIGH / 2
    ports = {"x": first, "y": first + PITCH}
    bottom = MARGIN + _cell_high(count)
    joined = bottom - PAD - JOIN_HIGH / 2
    taken: dict[str, list[tuple[str, float]]] = {"y": [], "x": []}  # by whom and at which height
    for k, node in enumerate(parts.nodes):
        for name, high in zip(node.inputs, (rows[k] - APART, rows[k] + APART)):
            taken.setdefault(name, []).append((f"{cell}:node:{k}", high))
    taken["x"].append((f"{cell}:join", joined))
    begins = {f"node:{k}": row + PITCH / 2 for k, row in enumerate(rows)} | ports
    order = _tracks({name: (begins[name], ends[-1][1]) for name, ends in taken.items() if ends})
    wide = 9.0 + TRACK * (1 + max(order.values()))
    box_left = left + wide + 25.0
    box_right = box_left + NODE_WIDE
    bus = box_right + 11.0
    frame = layout.add(Box(cell, "frame", left, MARGIN, bus + 22.0, bottom))
    for k, row in enumerate(rows):
        high = NODE_HIGH / 2
        layout.add(Box(f"{cell}:node:{k}", "node", box_left, row - high, box_right, row + high))
        points = ((box_right, row), (bus, row), (bus, joined - JOIN_HIGH / 2))
        layout.lines.append(
            Line(f"{cell}:bus", f"{cell}:node:{k}", f"{cell}:join", points, FUSED, k == count - 1)
        )
    high = JOIN_HIGH / 2
    join = Box(f"{cell}:join", "join", box_left, joined - high, bus + 10.0, joined + high)
    layout.add(join)
    for name, ends in taken.items():
        track = left + 18.0 + TRACK * order.get(name, 0)
        for target, height in ends:
            if name in ports:
                start, source = (left, ports[name]), cell
                points = (start, (track, start[1]), (track, height), (box_left, height))
                colour = colour_of(parts.inputs[0 if name == "x" else 1])
            else:
                row, source = rows[int(name[5:])], f"{cell}:{name}"
                out, gap = box_left + 16.0, row + PITCH / 2
                points = (
                    (out, row + NODE_HIGH / 2),
                    *((out, gap), (track, gap), (track, height)),
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
    right, top = left + HEAD_WIDE, height - HEAD_HIGH / 2
    layout.add(Box("head", "head", left, top, right, height + HEAD_HIGH / 2, "head"))
    layout.lines.append(Line(cell_output(cell), cell, "head", (start, (left, height)), FUSED))
    middle, foot = (left + right) / 2, top - 26.0
    side = MAP_SIDE / 2
    layout.add(Box("map", "map", middle - side, foot - 2 * side, middle + side, foot, "head"))
    layout.lines.append(Line("map", "head", "map", ((middle, top), (middle, foot)), "head"))


def _cell_high(nodes: int) -> float:
    last = TITLE + NODE_HIGH / 2 + PITCH * (nodes - 1)
    second = TITLE + NODE_HIGH / 2 + PITCH
    return max(last + 56.0, second + 26.0) + JOIN_HIGH / 2 + PAD


def _highest(ports: Sequence[tuple[int, float]], gap: int) -> float:
    """Height of the port that a net goes to through a gap; first where it only passes."""
    return min((height for number, height in ports if number == gap), default=0.0)


def _tracks(spans: dict[str, tuple[float, float]]) -> dict[str, int]:
    """A track per net so that no two on one track overlap; y, x, then long spans outwards."""
    placed = {"y": 0, "x": 1}
    nodes = sorted((s for s in spans if s not in placed), key=lambda s: spans[s][0] - spans[s][1])
    for name in nodes:
        track = 2
        while any(
            placed[o] == track and spans[o][0] < spans[name][1] and spans[name][0] < spans[o][1]
            for o in placed
            if o in nodes
        ):
            track += 1
        placed[name] = track
    return placed


def _between(p: Point, a: Point, b: Point) -> bool:
    low, high = sorted((a, b))
    return low[0] <= p[0] <= high[0] and low[1] <= p[1] <= high[1]


def _direction(p: Point, q: Point) -> Point:
    return float((q[0] > p[0]) - (q[0] < p[0])), float((q[1] > p[1]) - (q[1] < p[1]))
