"""M3DM: budget, contrast, decision layer, and single sensors."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.models.m3dm import m3dm
from chiasm.errors import ConfigurationError


def test_the_banks_share_one_budget():
    detector = m3dm(bank_mb=3.0, pretrained=False)
    assert sum(bank.budget for bank in detector.banks.values()) <= 3_000_000
    assert set(detector.banks) == {"rgb", "geometry", "fused"}


def test_a_single_sensor_has_one_bank_and_nothing_to_fuse():
    detector = m3dm(modalities=("geometry",), pretrained=False)
    assert list(detector.banks) == ["geometry"]
    assert [step.name for step in detector.steps] == ["statistics", "banks", "decision"]
    assert detector.pretrained_weights is None
    picture = m3dm(modalities=("geometry",), points="picture", pretrained=False)
    assert picture.banks["geometry"].dimension == 176


def test_the_contrast_is_least_where_sensors_agree():
    torch.manual_seed(0)
    detector = m3dm(pretrained=False, points="picture")
    rows = torch.randn(1, 176, 8, 8)
    inside = torch.ones(1, 8, 8, dtype=torch.bool)
    detector.projections["geometry"].load_state_dict(detector.projections["rgb"].state_dict())
    same = detector.loss("fusion", {"rgb": rows, "geometry": rows, "inside": inside})
    other = detector.loss("fusion", {"rgb": rows, "geometry": rows.roll(1, 2), "inside": inside})
    assert same < 0.1 * other


def test_other_points_are_told():
    with pytest.raises(ConfigurationError, match="'fpfh', 'picture' or 'transformer'"):
        m3dm(points="mesh", pretrained=False)


def fitted(decision, parts=6):
    """Fit a baseline to random features of some parts; return it with features of two new parts."""
    torch.manual_seed(0)
    detector = m3dm(pretrained=False, points="picture", decision=decision).eval()
    inside = torch.rand(parts, 8, 8) > 0.3
    features = {m: torch.randn(parts, 176, 8, 8) for m in ("rgb", "geometry")}
    features["inside"] = inside
    index = torch.arange(parts)
    with torch.no_grad():
        for step in ("statistics", "banks", "decision"):
            detector.partial_fit(step, features, index)
            detector.finish_fit(step)
    fresh = {m: torch.randn(2, 176, 8, 8) for m in ("rgb", "geometry")}
    return detector, fresh | {"inside": inside[:2]}


@torch.no_grad()
def test_the_papers_rule_is_its_formulas():
    detector, features = fitted("paper")
    inside = features["inside"]
    output = detector.predict(features)
    rows = detector._rows(features)
    counts = inside.flatten(1).sum(1).tolist()
    expected, patches = torch.zeros(2), torch.zeros(sum(counts))
    for b, (name, bank) in enumerate(detector.banks.items()):
        table = torch.cdist(rows[name].double(), bank.descriptors.double())
        patches += detector.decision.patch_weights[b] * table.amin(1).float()
        for number, part in enumerate(table.split(counts)):
            distance, nearest = part.min(dim=1)
            farthest = int(distance.argmax())
            entry = bank.descriptors[nearest[farthest]].double()
            neighbours = (bank.descriptors.double() - entry).norm(dim=1).argsort()[:3]
            share = distance[farthest].exp() / part[farthest][neighbours].exp().sum()
            expected[number] += detector.decision.part_weights[b] * (1 - share) * distance[farthest]
    torch.testing.assert_close(output.image, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.raw[:, 0][inside], patches, rtol=1e-4, atol=1e-5)
    assert torch.equal(detector.decision.unit, torch.ones(3))


@torch.no_grad()
def test_the_maps_rule_takes_distances_in_units_of_their_spread_and_leaves_parts_to_the_map():
    detector, features = fitted("map")
    assert detector.predict(features).image is None
    before = detector.predict(features).raw
    # A bank whose distances are twice as large in all says the same.
    patches, parts = torch.rand(400, 3) + 0.5, torch.rand(9, 3) + 1
    layer = detector.decision
    layer.fit(patches, parts)
    first = layer.of_patches(patches)
    layer.fit(patches * torch.tensor([1.0, 2.0, 8.0]), parts)
    torch.testing.assert_close(layer.of_patches(patches * torch.tensor([1.0, 2.0, 8.0])), first)
    assert (before >= 0).all()


def test_a_part_without_patches_scores_nothing_by_either_rule():
    for decision in ("map", "paper"):
        detector, features = fitted(decision)
        features["inside"] = torch.zeros_like(features["inside"])
        output = detector.predict(features)
        assert not output.raw.any()
        assert output.image is None or not output.image.any()
