"""M3DM: budget, contrast, decision layer, and single sensors."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.models.m3dm import m3dm
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


def test_other_points_are_told():
    with pytest.raises(ConfigurationError, match="'fpfh', 'picture' or 'transformer'"):
        m3dm(points="mesh", pretrained=False)


def learnt(decision, parts=6):
    """A rival on features as they come, whose banks hold 5 parts' patches and which judges one."""
    torch.manual_seed(0)
    made = m3dm(pretrained=False, points="picture", decision=decision).eval()
    inside = torch.rand(parts, 8, 8) > 0.3
    described = {m: torch.randn(parts, 176, 8, 8) for m in ("rgb", "geometry")}
    described["inside"] = inside
    index = torch.arange(parts)
    with torch.no_grad():
        for step in ("statistics", "banks", "decision"):
            made.partial_fit(step, described, index)
            made.finish(step)
    fresh = {m: torch.randn(2, 176, 8, 8) for m in ("rgb", "geometry")}
    return made, fresh | {"inside": inside[:2]}


@torch.no_grad()
def test_the_papers_rule_is_its_formulas():
    made, described = learnt("paper")
    inside = described["inside"]
    output = made.predict(described)
    rows = made._rows(described)
    counts = inside.flatten(1).sum(1).tolist()
    expected, patches = torch.zeros(2), torch.zeros(sum(counts))
    for b, (name, bank) in enumerate(made.banks.items()):
        table = torch.cdist(rows[name].double(), bank.descriptors.double())
        patches += made.decision.patch_weights[b] * table.amin(1).float()
        for number, part in enumerate(table.split(counts)):
            away, nearest = part.min(dim=1)
            far = int(away.argmax())
            entry = bank.descriptors[nearest[far]].double()
            around = (bank.descriptors.double() - entry).norm(dim=1).argsort()[:3]
            share = away[far].exp() / part[far][around].exp().sum()
            expected[number] += made.decision.part_weights[b] * (1 - share) * away[far]
    torch.testing.assert_close(output.image, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.raw[:, 0][inside], patches, rtol=1e-4, atol=1e-5)
    assert torch.equal(made.decision.unit, torch.ones(3))


@torch.no_grad()
def test_the_maps_rule_takes_distances_in_units_of_their_spread_and_leaves_parts_to_the_map():
    made, described = learnt("map")
    assert made.predict(described).image is None
    before = made.predict(described).raw
    # A bank whose distances are twice as large in all says the same.
    patches, parts = torch.rand(400, 3) + 0.5, torch.rand(9, 3) + 1
    layer = made.decision
    layer.fit(patches, parts)
    first = layer.of_patches(patches)
    layer.fit(patches * torch.tensor([1.0, 2.0, 8.0]), parts)
    torch.testing.assert_close(layer.of_patches(patches * torch.tensor([1.0, 2.0, 8.0])), first)
    assert (before >= 0).all()


def test_a_part_without_patches_scores_nothing_by_either_rule():
    for decision in ("map", "paper"):
        made, described = learnt(decision)
        described["inside"] = torch.zeros_like(described["inside"])
        output = made.predict(described)
        assert not output.raw.any()
        assert output.image is None or not output.image.any()
