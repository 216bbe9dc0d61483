"""Linear one-class machines over distances, against every direction that there is."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.models.m3dm import DecisionLayer, one_class_weights
from chiasm.errors import ConfigurationError


def distances(count=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    usual = torch.tensor([4.0, 2.0, 3.0])
    return usual + torch.rand(count, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.5])


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_best_of_all_directions(seed):
    """The dual's optimum: the lower half of the projections is largest on average."""
    values = distances(300, seed=seed) * 0.01
    a, b = torch.meshgrid(*[torch.linspace(0, torch.pi / 2, 91)] * 2, indexing="ij")
    every = torch.stack([a.sin() * b.cos(), a.sin() * b.sin(), a.cos()], dim=2).flatten(0, 1)
    lower = (every @ values.T).sort(dim=1).values[:, :150].mean(dim=1)
    best = every[lower.argmax()]
    ours = one_class_weights(values)
    # Directions are tried a degree apart.
    assert torch.cosine_similarity(ours, best, dim=0) > 0.9995


def test_weights_are_those_of_scikit_learns_machine():
    from sklearn.svm import OneClassSVM

    values = distances(200)
    exact = OneClassSVM(kernel="linear", nu=0.5, max_iter=200_000).fit(values.double().numpy())
    reference = torch.tensor(exact.coef_[0], dtype=torch.float32)
    assert torch.cosine_similarity(one_class_weights(values), reference, dim=0) > 0.9999


def test_weights_never_speak_against_a_distance_and_one_bank_needs_none():
    for values in (distances(), -distances(), torch.randn(200, 3) - 1):
        weights = one_class_weights(values)
        assert (weights >= 0).all()
        assert weights.sum().item() == pytest.approx(3, rel=1e-5)
    assert torch.equal(one_class_weights(torch.rand(9, 1)), torch.ones(1))


@pytest.mark.parametrize("rule", ["map", "paper"])
def test_a_farther_patch_or_part_never_scores_less(rule):
    layer = DecisionLayer(3, rule=rule)
    layer.fit(distances(), distances(40, seed=1))
    here = distances(50, seed=2)
    for bank in range(3):
        farther = here.clone()
        farther[:, bank] += 1
        assert (layer.of_patches(farther) >= layer.of_patches(here)).all()
        assert (layer.of_parts(farther) >= layer.of_parts(here)).all()


def test_equal_distances_have_a_unit():
    layer = DecisionLayer(2)
    layer.fit(torch.ones(5, 2), torch.ones(3, 2))
    assert torch.isfinite(layer.of_patches(torch.ones(1, 2))).all()


def test_another_rule_is_told():
    with pytest.raises(ConfigurationError, match="decision is 'vote'; it is one of map, paper"):
        DecisionLayer(2, rule="vote")
