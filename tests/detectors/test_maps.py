"""Maps brought to size, in learning and in exported graphs alike."""

from __future__ import annotations

import pytest
import torch

from chiasm.detectors.maps import resize


@pytest.mark.parametrize(("old", "new"), [((32, 32), (256, 256)), ((7, 9), (20, 31))])
def test_exported_graphs_bring_maps_to_size_by_products(old, new, monkeypatch):
    maps = torch.randn(2, 1, *old, generator=torch.Generator().manual_seed(1))
    expected = resize(maps, new)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "interpolate", None)
    torch.testing.assert_close(resize(maps, new), expected, atol=2e-6, rtol=0)
