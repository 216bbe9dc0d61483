"""Maps brought to size, in learning and in exported graphs alike."""

from __future__ import annotations

import pytest
import torch

from chiasm.detectors.maps import image_score, resize, smooth


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
