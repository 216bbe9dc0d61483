"""Maps brought to size, in learning and in exported graphs alike."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.layers.maps import (
    dilated_foreground,
    image_score,
    resize,
    smooth,
    weighted_smooth,
)


@pytest.mark.parametrize(("old", "new"), [((32, 32), (256, 256)), ((7, 9), (20, 31))])
def test_exported_graphs_bring_maps_to_size_by_products(old, new, monkeypatch):
    maps = torch.randn(2, 1, *old, generator=torch.Generator().manual_seed(1))
    expected = resize(maps, new)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "interpolate", None)
    torch.testing.assert_close(resize(maps, new), expected, atol=2e-6, rtol=0)


def test_exported_graphs_smooth_and_average_by_products(monkeypatch):
    maps = torch.rand(2, 1, 64, 49, generator=torch.Generator().manual_seed(2))
    smoothed, scores = smooth(maps, sigma=2.0), image_score(maps)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for forbidden in ("conv2d", "avg_pool2d"):
        monkeypatch.setattr(torch.nn.functional, forbidden, None)
    torch.testing.assert_close(smooth(maps, sigma=2.0), smoothed, atol=2e-6, rtol=0)
    torch.testing.assert_close(image_score(maps), scores, atol=2e-6, rtol=0)


def test_exported_graphs_enlarge_weigh_and_smooth_in_one_product(monkeypatch):
    draw = torch.Generator().manual_seed(3)
    maps = [(1.5, torch.randn(2, 1, 16, 12, generator=draw)), (-0.3, torch.randn(2, 1, 8, 6))]
    expected = weighted_smooth(maps, (64, 48), sigma=1.3)
    by_hand = smooth(sum(w * resize(m, (64, 48)) for w, m in maps), sigma=1.3)
    torch.testing.assert_close(expected, by_hand)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(
        weighted_smooth(maps, (64, 48), sigma=1.3), expected, atol=5e-6, rtol=0
    )


@pytest.mark.parametrize("side", [64, 130])
def test_exported_graphs_widen_the_object_by_products(side, monkeypatch):
    foreground = torch.zeros(2, 1, side, side)
    foreground[0, 0, 10:20, 0:7] = 1
    foreground[1, 0, side - 1, 5] = 1
    expected = dilated_foreground(foreground)
    assert expected.sum() > foreground.sum()
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "max_pool2d", None)
    torch.testing.assert_close(dilated_foreground(foreground), expected, atol=0, rtol=0)
