"""The best epoch of a search: NaN is worst, and the warm-up has none."""

from __future__ import annotations

import math

import pytest
import torch

from chiasm.detection.layers.candidates import reconstruction_pools
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.search_steps import BestGenotype


@pytest.fixture
def supernet() -> FusionSupernet:
    return FusionSupernet(reconstruction_pools(width=4), width=4, size=4)


@torch.no_grad()
def move(supernet: FusionSupernet, seed: int) -> str:
    """Give the supernet another strongest architecture; returns it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in supernet.architecture_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return supernet.genotype().to_json()


@pytest.mark.parametrize(
    ("values", "best"),
    [([math.nan, 0.9], 1), ([0.2, math.nan, 0.1], 0), ([math.nan, math.nan], 0), ([0.1, 0.3], 1)],
)
def test_nan_is_worse_than_any_figure(supernet: FusionSupernet, values: list[float], best: int):
    kept = BestGenotype()
    genotypes = []
    for epoch, value in enumerate(values):
        genotypes.append(move(supernet, epoch))
        kept.update(supernet, value, epoch=epoch)
    assert kept.genotype is not None
    assert kept.genotype.to_json() == genotypes[best]
    assert kept.value == pytest.approx(values[best], nan_ok=True)


def test_an_epoch_of_the_warm_up_is_in_the_history_and_never_the_best(supernet: FusionSupernet):
    kept = BestGenotype()
    kept.update(supernet, 0.9, warm_up=True, epoch=0)
    assert kept.genotype is None
    searched = move(supernet, 1)
    kept.update(supernet, 0.1, warm_up=False, epoch=1)
    move(supernet, 2)
    kept.update(supernet, 0.8, warm_up=True, epoch=2)
    assert kept.genotype is not None
    assert (kept.genotype.to_json(), kept.value) == (searched, 0.1)
    assert [row["epoch"] for row in kept.history] == [0, 1, 2]
