"""The picture of a genotype: complete, the same every time, and nothing hides anything."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import combinations, pairwise

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from chiasm.detection.layers.candidates import frozen_pools, reconstruction_pools
from chiasm.diagnosis.layers.recording_parts import recording_pools
from chiasm.fusion.drawing import (
    LABELS,
    LARGE,
    SENSORS,
    SMALL,
    TINY,
    WORDS,
    _legend_spots,
    draw_genotype,
)
from chiasm.fusion.drawing_layout import (
    FEATURE_WIDTH,
    NODE_WIDTH,
    SMALL_WIDTH,
    Box,
    Layout,
    Point,
    colour_of,
    lay_out,
)
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import (
    CellGenotype,
    Genotype,
    NodeGenotype,
    concatenation,
    random_genotype,
)
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import Pools

POOLS = (
    frozen_pools(),
    reconstruction_pools(width=4),
    recording_pools(width=8, stages=(8, 8, 8), classes=5),
)


def first_genotype(pools: Pools, cells: int, nodes: int) -> Genotype:
    """The first random genotype with so many cells that reach the head."""
    drawn = (random_genotype(pools, nodes=nodes, seed=seed).pruned() for seed in range(1000))
    return next(g for g in drawn if len(g.cells) == cells)


GENOTYPES = [
    first_genotype(pools, cells, nodes)
    for cells in (1, 2, 3)
    for nodes in range(1, 7)
    for pools in POOLS
]


def shared_and_skipped() -> Genotype:
    """One feature that all cells read, and the early cell's output past the middle cell."""
    nodes = (NodeGenotype(("x", "y"), "glu"), NodeGenotype(("node:0", "y"), "guided_attention"))
    return Genotype(
        {
            "early": CellGenotype(("rgb/f4", "geometry/f4"), nodes[:1]),
            "middle": CellGenotype(("rgb/f4", "cell:early"), nodes),
            "late": CellGenotype(("cell:middle", "cell:early"), nodes),
        },
        output="late",
    )


def one_feature() -> Genotype:
    return Genotype({"late": CellGenotype(("a/b",), ())}, output="late")


NODES = (NodeGenotype(("x", "y"), "glu"), NodeGenotype(("node:0", "y"), "guided_attention"))


def join_of_everything() -> Genotype:
    """All maps, and both earlier cells, which share some of the maps."""
    return Genotype(
        {
            "early": CellGenotype(("rgb/fine", "geometry/f4"), NODES),
            "middle": CellGenotype(("rgb/f8", "geometry/f4"), NODES),
            "late": CellGenotype((*frozen_pools().maps(), "cell:early", "cell:middle"), ()),
        },
        output="late",
    )


def joins_before_nodes() -> Genotype:
    """An early and a middle cell that join, and a late one that does not."""
    early = ("rgb/raw", "geometry/raw", "rgb/f4", "geometry/f4", "rgb/f16", "geometry/f16")
    return Genotype(
        {
            "early": CellGenotype(early, ()),
            "middle": CellGenotype(("cell:early", "rgb/f8", "rgb/raw", "geometry/f8"), ()),
            "late": CellGenotype(("geometry/all", "cell:middle"), NODES),
        },
        output="late",
    )


def drawn_joins(pools: Pools, count: int) -> list[Genotype]:
    space, rng = FusionSpace(pools), random.Random(0)
    drawn = (space.draw(rng) for _ in range(20 * count))
    return [g for g in drawn if g.cells[g.output].joins and len(g.cells) > 1][:count]


JOINS = [
    *(concatenation(pools) for pools in POOLS),
    concatenation(frozen_pools(evidence=["*"])),
    one_feature(),
    Genotype({"late": CellGenotype(("geometry/f16", "rgb/f16"), ())}, output="late"),
    join_of_everything(),
    joins_before_nodes(),
    *(genotype for pools in POOLS for genotype in drawn_joins(pools, 6)),
]
ALL = [*GENOTYPES, shared_and_skipped(), *JOINS]


def meets(a: Point, b: Point, box: Box, *, apart: float = 2.0) -> bool:
    (left, right), (top, bottom) = sorted((a[0], b[0])), sorted((a[1], b[1]))
    across = left < box.right + apart and box.left - apart < right
    return across and top < box.bottom + apart and box.top - apart < bottom


def inside(box: Box, frame: Box) -> bool:
    return (
        frame.left < box.left
        and box.right < frame.right
        and frame.top < box.top
        and box.bottom < frame.bottom
    )


def texts(genotype: Genotype, tmp_path) -> str:
    draw_genotype(genotype, path_svg=tmp_path / "g.svg")
    return (tmp_path / "g.svg").read_text()


@pytest.mark.parametrize("number", [0, 7, 14, 18, 25, 32, 36, -1, -7, *range(55, 63)])
def test_every_feature_and_node_is_in_the_picture(number, tmp_path):
    genotype = ALL[number]
    text = texts(genotype, tmp_path)
    assert all(f">{name}</text>" in text for name in genotype.required)
    nodes = [node for cell in genotype.cells.values() for node in cell.nodes]
    for operation, count in Counter(node.operation for node in nodes).items():
        word = WORDS[operation].split("\n")[0]
        assert text.count(f">{word}</text>") == count
    counts = Counter(len(parts.inputs) for parts in genotype.cells.values() if parts.joins)
    for inputs, count in counts.items():
        assert text.count(f">{inputs} input{'' if inputs == 1 else 's'}</text>") == count
    attends = sum(node.operation == "guided_attention" for node in nodes)
    assert text.count(">query</text>") == text.count(">values</text>") == attends
    for cell, parts in genotype.cells.items():
        assert f">{cell.capitalize()} cell</text>" in text
        assert all(f'id="node-{cell}:node:{k}"' in text for k in range(len(parts.nodes)))


def test_the_same_genotype_gives_the_same_bytes(tmp_path):
    first = texts(shared_and_skipped(), tmp_path)
    assert first == texts(shared_and_skipped(), tmp_path)
    assert "<dc:date>" not in first


def test_cells_that_do_not_reach_the_head_are_left_out(tmp_path):
    whole = next(
        g
        for g in (random_genotype(frozen_pools(), seed=s) for s in range(20))
        if len(g.reachable()) == 1
    )
    assert texts(whole, tmp_path) == texts(whole.pruned(), tmp_path)


@pytest.mark.parametrize("genotype", ALL)
def test_no_boxes_overlap_and_nodes_stand_in_their_cell(genotype):
    layout = lay_out(genotype)
    for a, b in combinations(layout.boxes.values(), 2):
        if a.name.startswith(f"{b.name}:") or b.name.startswith(f"{a.name}:"):
            assert inside(*((b, a) if a.kind == "frame" else (a, b)))
        else:
            assert not meets((a.left, a.top), (a.right, a.bottom), b, apart=4.0), (a, b)
    canvas = Box("canvas", "", 0.0, 0.0, layout.width, layout.height)
    assert all(inside(box, canvas) for box in layout.boxes.values())
    assert layout.width < 1250  # its texts are readable at 900 pixels
    plain = FontProperties(family="DejaVu Sans")
    legend = _legend_spots(layout)
    ends = {n: x + 18 + _wide(SENSORS.get(n, n), SMALL, plain) for n, (x, _) in legend.items()}
    assert max(ends.values()) < layout.width
    for (name, (_, line)), (_, (x, next_line)) in pairwise(legend.items()):
        assert next_line > line or ends[name] < x


@pytest.mark.parametrize("genotype", ALL)
def test_lines_keep_off_boxes_that_are_not_theirs(genotype):
    layout = lay_out(genotype)
    for line in layout.lines:
        for a, b in pairwise(line.points):
            assert a[0] == b[0] or a[1] == b[1]
            for box in layout.boxes.values():
                ends = box.name in (line.source, line.target)
                if not ends and not line.net.startswith(f"{box.name}:"):
                    assert not meets(a, b, box), (line, box)


@pytest.mark.parametrize("genotype", ALL)
def test_lines_enter_their_own_boxes_only_at_the_edge(genotype):
    layout = lay_out(genotype)
    for line in layout.lines:
        for name in (line.source, line.target):
            box = layout.boxes[name]
            if not line.net.startswith(f"{name}:"):
                core = Box("", "", box.left + 1, box.top + 1, box.right - 1, box.bottom - 1)
                assert not any(meets(a, b, core, apart=0.5) for a, b in pairwise(line.points))


@pytest.mark.parametrize("genotype", ALL)
def test_lines_of_different_maps_only_cross(genotype):
    layout = lay_out(genotype)
    for line, other in combinations(layout.lines, 2):
        if line.net == other.net:
            continue
        for (a, b), (c, d) in (
            (s, t) for s in pairwise(line.points) for t in pairwise(other.points)
        ):
            for across, along in ((0, 1), (1, 0)):
                if a[across] == b[across] and c[across] == d[across]:
                    low = max(min(a[along], b[along]), min(c[along], d[along]))
                    high = min(max(a[along], b[along]), max(c[along], d[along]))
                    assert high <= low or abs(a[across] - c[across]) > 4, (line, other)


def test_the_lines_say_what_the_genotype_says():
    for genotype in ALL:
        layout = lay_out(genotype)
        lines = Counter((line.source, line.target, line.net) for line in layout.lines)
        for cell, parts in genotype.cells.items():
            for name, count in Counter(parts.inputs).items():
                assert lines[(name.removeprefix("cell:"), cell, name)] == count
            if parts.joins:
                assert all(lines[(cell, f"{cell}:join", f"{cell}:{n}")] == 1 for n in parts.inputs)
                continue
            assert lines[(cell, f"{cell}:join", f"{cell}:x")] == 1  # the residual
            for k, node in enumerate(parts.nodes):
                target = f"{cell}:node:{k}"
                for name in node.inputs:
                    source = cell if name in ("x", "y") else f"{cell}:{name}"
                    assert lines[(source, target, f"{cell}:{name}")] == 1
                assert lines[(target, f"{cell}:join", f"{cell}:bus")] == 1
                heights = {n: _end(layout, f"{cell}:{n}", target) for n in node.inputs}
                assert heights[node.inputs[0]] < heights[node.inputs[1]]  # the first stands above
        assert lines[(genotype.output, "head", f"cell:{genotype.output}")] == 1


def _end(layout: Layout, net: str, target: str) -> float:
    return next(n.points[-1][1] for n in layout.lines if (n.net, n.target) == (net, target))


def test_a_shared_feature_has_one_box_and_a_dot():
    layout = lay_out(shared_and_skipped())
    assert [b.name for b in layout.boxes.values() if b.kind == "feature"] == [
        "rgb/f4",
        "geometry/f4",
    ]
    gap = layout.boxes["early"].left
    assert any(point[0] < gap and colour == "rgb" for point, colour in layout.dots())


def test_unknown_names_are_drawn_too(tmp_path):
    text = texts(one_feature(), tmp_path)
    assert text.count(">a/b</text>") == 1


@pytest.mark.parametrize("joins", [True, False])
def test_a_name_longer_than_its_box_is_written_smaller(joins, tmp_path):
    long, short = "geometry/" + 8 * "descriptor_", "rgb/f16"
    cell = CellGenotype((long, short), () if joins else NODES)
    draw_genotype(Genotype({"late": cell}, output="late"), path_svg=tmp_path / "g.svg")
    text = (tmp_path / "g.svg").read_text()
    sizes = {
        name: float(re.search(rf"([\d.]+)px[^<>]*>{name}</text>", text)[1])
        for name in (long, short)
    }
    bold = FontProperties(family="DejaVu Sans", weight="bold")
    width = next(
        b.right - b.left
        for b in lay_out(Genotype({"late": cell}, output="late")).boxes.values()
        if b.name == long
    )
    # Sizes in the file are in points of 1/72 inch, and the picture has 96 pixels an inch.
    assert _wide(long, sizes[long] * 96 / 72, bold) < width
    assert sizes[long] < sizes[short]


@pytest.mark.parametrize("genotype", JOINS[:7])
def test_features_that_one_join_reads_stand_by_sensor_and_run_straight_to_it(genotype):
    layout = lay_out(genotype)
    boxes = [box for box in layout.boxes.values() if box.kind == "feature"]
    read_before = {i for c in genotype.cells.values() if not c.joins for i in c.inputs}
    column = sorted((b for b in boxes if b.name not in read_before), key=lambda box: box.top)
    sensors = [box.colour for box in column]
    assert sensors == sorted(sensors, key=sensors.index)
    straight = {line.net: line.points for line in layout.lines}
    assert all(len(straight[box.name]) == 2 for box in column)
    assert {colour_of(box.name) for box in column} == set(sensors)


@pytest.mark.parametrize(
    ("head", "label"), [("segmentation", "anomaly map"), ("class", "fault class")]
)
def test_the_head_says_what_it_makes(head, label, tmp_path):
    draw_genotype(ALL[2], path_svg=tmp_path / "g.svg", head=head)
    text = (tmp_path / "g.svg").read_text()
    assert f">{head}</text>" in text
    assert f">{label}</text>" in text


def test_texts_fit_their_boxes():
    bold = FontProperties(family="DejaVu Sans", weight="bold")
    plain = FontProperties(family="DejaVu Sans")
    for pools in POOLS:
        for name in pools.features:
            assert name.split("/")[1] in LABELS
            assert _wide(name, LARGE, bold) < FEATURE_WIDTH - 6
        for name in pools.maps():
            assert _wide(name, LARGE, bold) < SMALL_WIDTH - 6
            label = LABELS[name.split("/")[1]].replace("\n", " ")
            assert _wide(label, TINY, plain) < SMALL_WIDTH - 6
    assert all(
        _wide(line, SMALL, plain) < FEATURE_WIDTH - 6
        for label in LABELS.values()
        for line in label.split("\n")
    )
    assert set(WORDS) == set(OPERATIONS)
    assert all(
        _wide(line, LARGE, plain) < NODE_WIDTH - 10
        for word in WORDS.values()
        for line in word.split("\n")
    )


def _wide(text: str, size: float, font: FontProperties) -> float:
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width)
