"""M3DM: budget, contrast, decision layer, and single sensors."""

from __future__ import annotations

import pytest
import torch

from chiasm.detectors.m3dm import _one_class, m3dm
from chiasm.errors import ConfigurationError


def test_the_banks_share_one_budget():
    made = m3dm(bank_mb=3.0, pretrained=False)
    assert sum(bank.budget for bank in made.banks.values()) <= 3_000_000
    assert set(made.banks) == {"rgb", "geometry", "fused"}


def test_a_single_sensor_has_one_bank_and_nothing_to_fuse():
    made = m3dm(modalities=("geometry",), pretrained=False)
    assert list(made.banks) == ["geometry"]
    assert [step.name for step in made.steps] == ["statistics", "banks", "decision"]
    assert made.pretrained_weights is None
    picture = m3dm(modalities=("geometry",), points="picture", pretrained=False)
    assert picture.banks["geometry"].dimension == 176


def test_the_contrast_is_least_where_sensors_agree():
    torch.manual_seed(0)
    made = m3dm(pretrained=False, points="picture")
    rows = torch.randn(1, 176, 8, 8)
    inside = torch.ones(1, 8, 8, dtype=torch.bool)
    made.projections["geometry"].load_state_dict(made.projections["rgb"].state_dict())
    same = made.loss("fusion", {"rgb": rows, "geometry": rows, "inside": inside})
    other = made.loss("fusion", {"rgb": rows, "geometry": rows.roll(1, 2), "inside": inside})
    assert same < 0.1 * other


def test_the_decision_layer_weighs_every_bank_and_never_against_a_distance():
    torch.manual_seed(0)
    weights = _one_class(torch.rand(500, 3) + torch.tensor([0.5, 0.6, 0.4]))
    assert weights.shape == (3,)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(3, rel=1e-5)
    assert torch.equal(_one_class(torch.rand(9, 1)), torch.ones(1))


def test_other_points_are_told():
    with pytest.raises(ConfigurationError, match="'fpfh', 'picture' or 'transformer'"):
        m3dm(points="mesh", pretrained=False)
