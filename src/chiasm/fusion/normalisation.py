"""Norms of a fusion network for batches that may lack a whole sensor."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def normed_by_sample(network: Network) -> Network:
    """Replace every batch norm by a group norm of one group, in place; returns the network.

    A batch norm remembers one mean and one variance. Where some batches hold zeros in place of a
    sensor and others do not, these are the statistics of neither, and what is learned in training
    does not hold at prediction. A group norm sees one sample and is the same in both.

    References:
        Wu, He, Group Normalization, ECCV 2018.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(1, child.num_features))
    return network
