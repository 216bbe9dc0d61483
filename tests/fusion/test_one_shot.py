"""Shared weights: a path is the network of its genotype, and nothing else of it changes."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from chiasm.detection.layers.candidates import frozen_pools, reconstruction_pools
from chiasm.diagnosis.layers.recording_parts import recording_pools
from chiasm.errors import GenotypeError
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype, concatenation
from chiasm.fusion.network import FusionNetwork
from chiasm.fusion.one_shot import OneShotFusion, batch_statistics, taking
from chiasm.fusion.pools import Pools

WIDTH, SIZE = 6, 8
POOLS = {
    "frozen": frozen_pools(),
    "from scratch": reconstruction_pools(width=4),
    "recordings": recording_pools(width=8, stages=(8, 8, 8), classes=5),
}
GLU = NodeGenotype(("x", "y"), "glu")


def maps_of(pools: Pools, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(2, c.channels, *(max(32 // c.stride, 2),) * 2, generator=generator)
        for name, c in pools.maps().items()
    }


def used(name: str) -> OneShotFusion:
    """Shared weights whose running statistics are those of a few random paths."""
    torch.manual_seed(0)
    fusion = OneShotFusion(POOLS[name], width=WIDTH, size=SIZE)
    space, rng = FusionSpace(POOLS[name]), random.Random(0)
    with torch.no_grad():
        for norm in fusion.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.GroupNorm):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_()
        for seed in range(6):
            with taking(fusion, space.draw(rng)):
                fusion(maps_of(POOLS[name], seed))
    return fusion


def paths_of(name: str) -> list[Genotype]:
    space, rng = FusionSpace(POOLS[name]), random.Random(1)
    paths = [concatenation(POOLS[name]), *(space.draw(rng) for _ in range(6))]
    if name == "frozen":
        early = CellGenotype(("rgb/raw", "geometry/f16"), ())
        late = CellGenotype(("geometry/all", "cell:early"), (GLU, GLU))
        paths.append(Genotype({"early": early, "late": late}, output="late"))
    return paths


def derived(fusion: OneShotFusion, path: Genotype) -> FusionNetwork:
    network = FusionNetwork(fusion.pools, path, width=fusion.width, size=fusion.size)
    network.load_state_dict(fusion.weights_of(network))  # strict: every weight has its source
    return network


@pytest.mark.parametrize("name", POOLS)
def test_a_path_equals_the_network_that_is_derived_from_it(name):
    fusion, maps = used(name), maps_of(POOLS[name], 9)
    for path in paths_of(name):
        network = derived(fusion, path)
        with torch.no_grad(), taking(fusion.eval(), path):
            torch.testing.assert_close(network.eval()(maps), fusion(maps), atol=1e-5, rtol=1e-5)
            with batch_statistics(fusion):
                torch.testing.assert_close(
                    network.train()(maps), fusion(maps), atol=1e-5, rtol=1e-5
                )


def test_paths_differ_and_the_first_is_the_concatenation():
    fusion, maps = used("frozen").eval(), maps_of(POOLS["frozen"])
    with torch.no_grad():
        first = fusion(maps)
        outputs = []
        for path in paths_of("frozen"):
            with taking(fusion, path):
                outputs.append(fusion(maps))
    torch.testing.assert_close(outputs[0], first, atol=0, rtol=0)
    assert all(not torch.allclose(first, other, atol=1e-3) for other in outputs[1:])
    assert fusion.required == frozenset(POOLS["frozen"].maps())


def test_a_join_trains_the_columns_of_its_inputs_alone():
    fusion, maps = used("frozen"), maps_of(POOLS["frozen"])
    inputs = ("rgb/f8", "geometry/distance")
    with taking(fusion, Genotype({"late": CellGenotype(inputs, ())}, output="late")):
        fusion(maps).square().mean().backward()
    gradient = fusion.mix[0].weight.grad.unflatten(1, (-1, WIDTH))  # (C, inputs, C, 1, 1)
    touched = gradient.abs().sum(dim=(0, 2, 3, 4)) > 0
    assert [n for n, t in zip(fusion.joinable, touched) if t] == list(inputs)
    trained = {n for n, p in fusion.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any(name.startswith(("operations", "outputs")) for name in trained)


def statistics(fusion: OneShotFusion) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fusion.named_buffers()}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_batch_statistics_leave_the_running_ones_to_the_bit(fails, training):
    fusion, maps = used("frozen").train(training), maps_of(POOLS["frozen"], 4)
    before = statistics(fusion)
    flags = {name: (m.training, getattr(m, "momentum", 0)) for name, m in fusion.named_modules()}
    try:
        with torch.no_grad(), batch_statistics(fusion):
            fusion(maps)
            if fails:
                raise KeyError
    except KeyError:
        pass
    after = statistics(fusion)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert flags == {
        name: (m.training, getattr(m, "momentum", 0)) for name, m in fusion.named_modules()
    }


def test_with_batch_statistics_the_running_ones_do_not_matter():
    fusion, maps = used("frozen").eval(), maps_of(POOLS["frozen"])
    with torch.no_grad(), batch_statistics(fusion):
        first = fusion(maps)
        for norm in fusion.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.fill_(7.0)
        torch.testing.assert_close(fusion(maps), first, atol=0, rtol=0)
    assert not torch.allclose(fusion(maps), first)


def test_taking_ends_with_the_former_path_whatever_happens():
    fusion = used("frozen")
    former, other = fusion.path, paths_of("frozen")[1]
    with pytest.raises(KeyError), taking(fusion, other):
        assert fusion.path is other
        raise KeyError
    assert fusion.path is former
    misfit = concatenation(POOLS["recordings"])
    with pytest.raises(GenotypeError, match="pool"), taking(fusion, misfit):
        pass
    assert fusion.path is former
