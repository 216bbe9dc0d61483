"""Supervised contrast against its equation written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from chiasm.diagnosis.layers.contrastive import SupervisedContrast, contrast_floor
from chiasm.diagnosis.layers.heads import ProjectionHead
from chiasm.errors import ConfigurationError


def equation_one(features, labels, temperature):
    """The paper's Equation 1 with loops, divided by the number of anchors that have positives."""
    z = features.reshape(-1, features.shape[-1]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    y = np.repeat(labels, features.shape[1])
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if y[p] == y[i]]
        if positives:
            total = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
            terms = [math.log(math.exp(z[i] @ z[p] / temperature) / total) for p in positives]
            losses.append(-sum(terms) / len(positives))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_loss_is_the_papers_equation(temperature, views):
    generator = np.random.default_rng(views)
    features = generator.normal(size=(7, views, 5)).astype(np.float32)
    labels = np.array([0, 1, 1, 0, 2, 0, 3])  # 2 and 3 have positives only in other views
    loss = SupervisedContrast(temperature=temperature)(torch.tensor(features), torch.tensor(labels))
    assert float(loss) == pytest.approx(equation_one(features, labels, temperature), rel=1e-4)


def simplex(classes):
    """``classes`` points that are all equally far apart, as unit vectors."""
    corners = torch.eye(classes) - 1 / classes
    return corners / corners.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_monitor_is_0_at_the_simplex_and_1_where_all_are_alike(classes):
    contrast = SupervisedContrast()
    labels = torch.arange(classes).repeat(4)
    best = simplex(classes)[labels][:, None].expand(-1, 2, -1)
    equal = torch.ones_like(best)
    low, high = contrast(best, labels), contrast(equal, labels)
    assert float(contrast.monitor(low, labels, views=2)) == pytest.approx(0, abs=1e-4)
    assert float(contrast.monitor(high, labels, views=2)) == pytest.approx(1, abs=1e-4)


def test_descent_approaches_the_floor_and_never_passes_it():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(5)
    features = torch.randn(15, 1, 4, requires_grad=True)
    contrast, optimizer = SupervisedContrast(), torch.optim.Adam([features], lr=0.1)
    floor = float(contrast_floor(labels, temperature=0.5))
    for _ in range(150):
        optimizer.zero_grad()
        loss = contrast(features, labels)
        assert float(loss.detach()) >= floor - 1e-5
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) == pytest.approx(floor, abs=1e-3)


def test_one_class_alone_has_nothing_to_monitor():
    contrast, labels = SupervisedContrast(), torch.zeros(4, dtype=torch.int64)
    loss = contrast(torch.randn(4, 1, 3), labels)
    assert float(loss) == 0
    assert contrast.monitor(loss, labels, views=1).isnan()


def test_labels_must_fit():
    with pytest.raises(ConfigurationError, match="one label"):
        SupervisedContrast()(torch.randn(4, 2, 3), torch.zeros(8, dtype=torch.int64))


def test_projections_have_length_one():
    projected = ProjectionHead(width=6, hidden=5, out=4)(torch.randn(3, 2, 6))
    torch.testing.assert_close(projected.norm(dim=-1), torch.ones(3, 2))
