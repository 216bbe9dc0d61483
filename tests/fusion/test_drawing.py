"""The picture of a genotype: complete, the same every time, and nothing hides anything."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from chiasm.detection.layers.features import frozen_pools, reconstruction_pools
from chiasm.diagnosis.layers.recording_parts import recording_pools
from chiasm.fusion.drawing import LABELS, LARGE, SMALL, WORDS, draw_genotype
from chiasm.fusion.drawing_layout import FEATURE_WIDTH, NODE_WIDTH, Box, Layout, Point, lay_out
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype, random_genotype
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


ALL = [*GENOTYPES, shared_and_skipped()]


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


@pytest.mark.parametrize("number", [0, 7, 14, 18, 25, 32, 36])
def test_every_feature_and_node_is_in_the_picture(number, tmp_path):
    genotype = ALL[number]
    text = texts(genotype, tmp_path)
    assert all(f">{name}</text>" in text for name in genotype.required)
    nodes = [node for cell in genotype.cells.values() for node in cell.nodes]
    for operation, count in Counter(node.operation for node in nodes).items():
        word = WORDS[operation].split("\n")[0]
        assert text.count(f">{word}</text>") == count
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
    for genotype in GENOTYPES:
        layout = lay_out(genotype)
        lines = Counter((line.source, line.target, line.net) for line in layout.lines)
        for cell, parts in genotype.cells.items():
            for name, count in Counter(parts.inputs).items():
                assert lines[(name.removeprefix("cell:"), cell, name)] == count
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


def test_unknown_names_and_a_cell_without_nodes_are_drawn_too(tmp_path):
    text = texts(one_feature(), tmp_path)
    assert text.count(">a/b</text>") == 1


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
