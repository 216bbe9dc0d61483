"""Fusion networks by genotype or by name, and their normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from chiasm.errors import ConfigurationError
from chiasm.fusion.cell import join_layers
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionNetwork, FusionSupernet
from chiasm.fusion.one_shot import OneShotFusion
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import Pools
from chiasm.fusion.projection import Projections, resize
from chiasm.fusion.recomputation import run_layer


class ConcatenationFusion(nn.Module):
    """Project every map, resize, concatenate, 1x1 convolution to C.

    Attributes:
        recompute: whether activations are computed again for the gradients, see ``run_layer``.

    References:
        Chen et al., EasyNet, ACM MM 2023: layers of both modalities, concatenated.
    """

    def __init__(self, pools: Pools, *, width: int, size: int) -> None:
        super().__init__()
        maps = pools.maps()
        self.required = frozenset(maps)
        self.names = tuple(maps)
        self.size = size
        self.projections = Projections(maps.values(), width=width)
        self.mix = join_layers(count=len(self.names), width=width)
        self.recompute = False

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse feature maps by name into ``(N, C, S, S)``."""
        maps = [self._projected(name, features) for name in self.names]
        out: Tensor = self.mix(torch.cat(maps, dim=1))
        return out

    def _projected(self, name: str, features: Mapping[str, Tensor]) -> Tensor:
        value = run_layer(
            self.projections,
            name,
            features,
            recompute=self.recompute,
            call=self.projections.project,
        )
        return resize(value, self.size)


AnyFusion = FusionSupernet | OneShotFusion | FusionNetwork | ConcatenationFusion


def make_fusion(
    pools: Pools,
    fusion: Genotype | str,
    *,
    width: int,
    size: int,
    nodes: int = 2,
    operations: Sequence[str] = tuple(OPERATIONS),
) -> AnyFusion:
    """Build a fusion: a genotype's, all (``"supernet"``, ``"one_shot"``) or ``"concatenation"``.

    Raises:
        ConfigurationError: another name.
        GenotypeError: the genotype does not fit the pools.
    """
    if isinstance(fusion, Genotype):
        return FusionNetwork(pools, fusion, width=width, size=size)
    if fusion == "supernet":
        return FusionSupernet(pools, width=width, size=size, nodes=nodes, operations=operations)
    if fusion == "one_shot":
        return OneShotFusion(pools, width=width, size=size, nodes=nodes, operations=operations)
    if fusion == "concatenation":
        return ConcatenationFusion(pools, width=width, size=size)
    raise ConfigurationError(
        f"fusion must be a genotype, 'supernet', 'one_shot' or 'concatenation', not {fusion!r}."
    )


Network = TypeVar("Network", bound=nn.Module)


def normed_by_sample(network: Network) -> Network:
    """Replace every batch norm by a group norm of one group, in place; returns the network.

    A batch norm stores one mean and one variance. If some batches hold zeros instead of a sensor
    and others do not, these are the statistics of neither, and training does not transfer to
    prediction. A group norm depends on one sample and is the same in both.

    References:
        Wu, He, Group Normalization, ECCV 2018.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(1, child.num_features))
    return network
