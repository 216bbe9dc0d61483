"""Finalists: the search's own, draws that lean its way, and draws from the whole space."""

from __future__ import annotations

import torch

from chiasm.detection.layers.features import frozen_pools
from chiasm.fusion.finalists import propose, reads
from chiasm.fusion.network import FusionSupernet


def test_finalists_come_from_the_search_and_from_the_whole_space():
    pools = frozen_pools(("rgb", "geometry"))
    supernet = FusionSupernet(pools, width=8, size=8, nodes=2)
    proposed = propose(supernet, best=None, count=6, seed=3)
    assert len({genotype.required for genotype in proposed}) == 6
    assert proposed[0] == supernet.genotype()
    uniform = [genotype for genotype in proposed if "random_seed" in genotype.provenance]
    assert 2 <= len(uniform) <= 4
    assert proposed == propose(supernet, best=None, count=6, seed=3)


def test_finalists_read_every_sensor_that_is_asked_for():
    supernet = FusionSupernet(frozen_pools(), width=8, size=8, nodes=2)
    with torch.no_grad():  # the search wants one sensor alone
        for cell, names in ((c, supernet.pools.candidates(c)) for c in supernet.pools.present):
            for number, name in enumerate(names):
                supernet.outer[cell][:, number] += 6.0 * name.startswith("rgb/")
    assert not reads(supernet.genotype(), ("rgb", "geometry"))
    free = propose(supernet, best=None, count=4)
    assert free[0] == supernet.genotype()
    bound = propose(supernet, best=None, count=4, sensors=("rgb", "geometry"))
    assert bound
    assert all(reads(genotype, ("rgb", "geometry")) for genotype in bound)
    assert propose(supernet, best=None, count=4, sensors=("sound",)) == [supernet.genotype()]
