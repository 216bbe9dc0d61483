"""The attention that graphs hold computes what the trained one computes."""

from __future__ import annotations

import copy

import torch

from chiasm.deploy.graph_attention import GraphAttention, replace_attention
from chiasm.fusion.cell import DerivedCell
from chiasm.fusion.genotype import CellGenotype, NodeGenotype


def test_every_attention_of_a_cell_is_replaced_and_the_output_is_equal():
    torch.manual_seed(0)
    genotype = CellGenotype(
        inputs=("rgb/a", "geometry/b"),
        nodes=(
            NodeGenotype(("x", "y"), "guided_attention"),
            NodeGenotype(("node:0", "y"), "guided_attention"),
        ),
    )
    cell = DerivedCell(genotype, width=8).eval()
    x, y = torch.randn(2, 2, 8, 12, 20)
    expected = cell(x, y)
    exported = copy.deepcopy(cell)
    replace_attention(exported)
    assert all(isinstance(node, GraphAttention) for node in exported.nodes)
    assert not any(isinstance(node, GraphAttention) for node in cell.nodes)
    torch.testing.assert_close(exported(x, y), expected, atol=1e-5, rtol=1e-4)
