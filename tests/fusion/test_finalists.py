"""Finalists: the search's own, draws that lean its way, and draws from the whole space."""

from __future__ import annotations

from chiasm.detectors.candidates import light_pools
from chiasm.fusion.finalists import propose
from chiasm.fusion.network import FusionSupernet


def test_finalists_come_from_the_search_and_from_the_whole_space():
    pools = light_pools(modalities=("rgb", "geometry"))
    supernet = FusionSupernet(pools, width=8, size=8, nodes=2)
    proposed = propose(supernet, best=None, count=6, seed=3)
    assert len({one.required for one in proposed}) == 6
    assert proposed[0] == supernet.genotype()
    uniform = [one for one in proposed if "random_seed" in one.provenance]
    assert 2 <= len(uniform) <= 4
    assert proposed == propose(supernet, best=None, count=6, seed=3)
