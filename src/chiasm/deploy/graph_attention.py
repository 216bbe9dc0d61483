"""Guided attention of a searched fusion in the form that graphs of both wings can hold."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.fusion.cell import DerivedCell
from chiasm.fusion.operations import GuidedAttention


class GraphAttention(nn.Module):
    """Guided attention as the products of four axes that runtimes fuse to one attention operation,
    without storing its weights.

    Args:
        attention: of the fusion network.
    """

    def __init__(self, attention: GuidedAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """As ``GuidedAttention``."""
        height, width = (self.attention.pooled_side(side) for side in x.shape[-2:])
        query = x.flatten(2).transpose(1, 2)[:, None]  # n c h w -> n 1 (h w) c
        memory = F.adaptive_avg_pool2d(y, (height, width)).flatten(2).transpose(1, 2)[:, None]
        weights = (query @ memory.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(dim=3)
        answer = (weights @ memory).transpose(2, 3)  # n 1 c (h w)
        normed: Tensor = self.attention.norm(answer.reshape(x.shape))
        return normed


def replace_attention(network: nn.Module) -> None:
    """Replace every guided attention of the cells of a network, in place."""
    for cell in [module for module in network.modules() if isinstance(module, DerivedCell)]:
        for number, operation in enumerate(cell.nodes):
            if isinstance(operation, GuidedAttention):
                cell.nodes[number] = GraphAttention(operation)
