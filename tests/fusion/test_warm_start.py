"""A derived detector with the relaxed one's weights computes what the decided relaxed one does."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.models.adnas import AdnasDetector, adnas_slim
from chiasm.fusion.finalists import random_architecture
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.warm_start import warm_start
from chiasm.samples import RGBDBatch

SIZE = 64


def batch() -> RGBDBatch:
    generator = torch.Generator().manual_seed(5)
    rgb, geometry = (torch.rand(2, 3, SIZE, SIZE, generator=generator) for _ in range(2))
    return RGBDBatch(rgb, geometry, torch.ones(2, 1, SIZE, SIZE), torch.zeros(2, 1, SIZE, SIZE))


@torch.no_grad()
def decide(supernet: FusionSupernet, genotype: Genotype) -> None:
    """Put all weight of every relaxed choice on the genotype's."""
    for parameter in supernet.architecture_parameters():
        parameter.zero_()
    for name, cell in genotype.cells.items():
        candidates, relaxed = supernet.pools.candidates(name), supernet.cells[name]
        for side, chosen in enumerate(cell.inputs):
            supernet.outer[name][side, candidates.index(chosen)] = 200.0
        for number, node in enumerate(cell.nodes):
            values = ["x", "y", *(f"node:{i}" for i in range(number))]
            for side, chosen in enumerate(node.inputs):
                relaxed.inner[number][side, values.index(chosen)] = 200.0
            relaxed.operation[number][relaxed.names.index(node.operation)] = 200.0


@torch.no_grad()
def trained(detector: AdnasDetector) -> AdnasDetector:
    """Give a detector weights and statistics that no new one has."""
    generator = torch.Generator().manual_seed(1)
    for name, value in detector.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.add_(0.1 * noise if name.endswith("running_var") else 0.1 * (noise - 0.5))
    return detector


@pytest.mark.parametrize("seed", range(4))
def test_a_warm_network_equals_the_decided_relaxed_one(seed: int):
    relaxed = trained(adnas_slim("supernet", image_size=SIZE)).eval()
    supernet = relaxed.fusion
    assert isinstance(supernet, FusionSupernet)
    genotype = random_architecture(supernet.pools, seed=seed)
    decide(supernet, genotype)
    torch.manual_seed(seed)
    derived = adnas_slim(genotype, image_size=SIZE).eval()
    with torch.no_grad():
        expected = relaxed(batch()).logits
        assert not torch.allclose(derived(batch()).logits, expected, atol=1e-5)
        copied = warm_start(derived, relaxed)
        assert copied == derived.state_dict().keys()
        torch.testing.assert_close(derived(batch()).logits, expected, atol=1e-5, rtol=0)


def test_what_the_relaxed_network_lacks_keeps_its_start():
    relaxed = trained(adnas_slim("supernet", image_size=SIZE, operations=("addition",)))
    other = adnas_slim("concatenation", image_size=SIZE)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    copied = warm_start(other, relaxed)
    assert {name.split(".")[0] for name in copied} >= {"source", "head"}
    assert not any(name.startswith("fusion.") for name in copied)
    for name, value in other.state_dict().items():
        learned = relaxed.state_dict()[name] if name in copied else before[name]
        assert torch.equal(value, learned), name
