"""Finalists: the search's own, draws that lean its way, and draws from the whole space."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.layers.candidates import frozen_pools, reconstruction_pools
from chiasm.errors import ConfigurationError
from chiasm.fusion.finalists import propose, random_architecture, reads
from chiasm.fusion.genotype import random_genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.pools import Candidate, Pools


def test_finalists_come_from_the_search_and_from_the_whole_space():
    pools = frozen_pools(("rgb", "geometry"))
    supernet = FusionSupernet(pools, width=8, size=8, nodes=2)
    proposed = propose(supernet, best=None, count=6, seed=3)
    assert len({genotype.required for genotype in proposed}) == 6
    assert proposed[0] == supernet.genotype()
    uniform = [genotype for genotype in proposed if "random_seed" in genotype.provenance]
    assert 2 <= len(uniform) <= 4
    assert proposed == propose(supernet, best=None, count=6, seed=3)


def test_finalists_read_every_sensor_of_the_pools():
    supernet = FusionSupernet(frozen_pools(), width=8, size=8, nodes=2)
    with torch.no_grad():  # the search wants one sensor alone
        for cell, names in ((c, supernet.pools.candidates(c)) for c in supernet.pools.present):
            for number, name in enumerate(names):
                supernet.outer[cell][:, number] += 6.0 * name.startswith("rgb/")
    assert not reads(supernet.genotype(), ("rgb", "geometry"))
    for count in (1, 4):
        proposed = propose(supernet, best=None, count=count)
        assert len(proposed) == count
        assert all(reads(genotype, ("rgb", "geometry")) for genotype in proposed)
    alone = FusionSupernet(frozen_pools(("geometry",)), width=8, size=8, nodes=2)
    assert propose(alone, best=None, count=1) == [alone.genotype()]


@pytest.mark.parametrize("pools", [frozen_pools(), reconstruction_pools(width=4)])
def test_random_architectures_read_every_sensor_and_repeat_with_the_seed(pools: Pools):
    drawn = [random_architecture(pools, seed=seed) for seed in range(40)]
    assert all(reads(genotype, ("rgb", "geometry")) for genotype in drawn)
    assert drawn == [random_architecture(pools, seed=seed) for seed in range(40)]
    # A draw that reads both is that of the plain generator; a redraw is no neighbour's draw.
    plain = [random_genotype(pools, seed=seed) for seed in range(40)]
    complete = [reads(genotype, ("rgb", "geometry")) for genotype in plain]
    assert 0 < sum(complete) < 40
    assert [g for g, c in zip(drawn, complete) if c] == [g for g, c in zip(plain, complete) if c]
    assert len({genotype.to_json() for genotype in drawn}) == 40


def test_a_space_without_an_architecture_of_every_sensor_is_refused():
    pools = Pools(
        early=(Candidate("rgb/a", 4, 1, "rgb"),),
        late=(Candidate("geometry/b", 4, 1, "geometry"),),
    ).only("early", "late")
    two = Pools(late=(Candidate("rgb/a", 4, 1, "rgb"), Candidate("geometry/b", 4, 1, "geometry")))
    assert reads(random_architecture(pools), ("rgb", "geometry"))
    three = Pools(late=(*two.late, Candidate("sound/c", 4, 1, "sound")))
    with pytest.raises(ConfigurationError, match="geometry, rgb, sound"):
        random_architecture(three)
    with pytest.raises(ConfigurationError, match="geometry, rgb, sound"):
        propose(FusionSupernet(three, width=4, size=4), best=None, count=2)
