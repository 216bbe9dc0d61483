"""A fusion network from what describes it: a genotype, or the name of a form without one."""

from __future__ import annotations

from collections.abc import Sequence

from chiasm.errors import ConfigurationError
from chiasm.fusion.concatenate import ConcatenationFusion
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionNetwork, FusionSupernet
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import Pools

AnyFusion = FusionSupernet | FusionNetwork | ConcatenationFusion


def make_fusion(
    pools: Pools,
    fusion: Genotype | str,
    *,
    width: int,
    size: int,
    nodes: int = 2,
    operations: Sequence[str] = tuple(OPERATIONS),
) -> AnyFusion:
    """The network of a genotype, the ``"supernet"`` or the hand-made ``"concatenation"``.

    Raises:
        ConfigurationError: another name.
        GenotypeError: the genotype does not fit the pools.
    """
    if isinstance(fusion, Genotype):
        return FusionNetwork(pools, fusion, width=width, size=size)
    if fusion == "supernet":
        return FusionSupernet(pools, width=width, size=size, nodes=nodes, operations=operations)
    if fusion == "concatenation":
        return ConcatenationFusion(pools, width=width, size=size)
    raise ConfigurationError(
        f"fusion must be a genotype, 'supernet' or 'concatenation', not {fusion!r}."
    )
