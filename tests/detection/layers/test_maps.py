"""Postprocessing of maps, in training and as the products of exported graphs alike."""

from __future__ import annotations

import pytest
import torch

from chiasm.deploy.map_products import MapProducts
from chiasm.detection.layers.maps import MapPostprocessing

EAGER, PRODUCTS = MapPostprocessing(), MapProducts()


@pytest.fixture
def products_only(monkeypatch):
    """Forbid the operations that runtimes of graphs are slow at."""

    def forbid(*names):
        for name in names:
            monkeypatch.setattr(torch.nn.functional, name, None)

    return forbid


def test_export_can_replace_every_operation_and_the_state_is_empty():
    def operations(module):
        return {name for name in vars(module) if not name.startswith("_")}

    assert operations(MapProducts) == operations(MapPostprocessing)
    assert not EAGER.state_dict() and not PRODUCTS.state_dict()


@pytest.mark.parametrize(("old", "new"), [((32, 32), (256, 256)), ((7, 9), (20, 31))])
def test_exported_graphs_resize_maps_by_products(old, new, products_only):
    maps = torch.randn(2, 1, *old, generator=torch.Generator().manual_seed(1))
    expected = EAGER.resize(maps, new)
    products_only("interpolate")
    torch.testing.assert_close(PRODUCTS.resize(maps, new), expected, atol=2e-6, rtol=0)


def test_exported_graphs_smooth_by_products(products_only):
    maps = torch.rand(2, 1, 64, 49, generator=torch.Generator().manual_seed(2))
    smoothed = EAGER.smooth(maps, sigma=2.0)
    products_only("conv2d")
    torch.testing.assert_close(PRODUCTS.smooth(maps, sigma=2.0), smoothed, atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", [(64, 49), (256, 256), (96, 160)])
@pytest.mark.parametrize("window", [0.0, 1 / 24, 1 / 12])
def test_exported_graphs_average_by_products(size, window, products_only):
    maps = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(2))
    means, cells = EAGER.local_means(maps, window=window), EAGER.cells(maps)
    products_only("avg_pool2d")
    found = PRODUCTS.local_means(maps, window=window)
    torch.testing.assert_close(found, means, atol=2e-6, rtol=0)
    torch.testing.assert_close(PRODUCTS.cells(maps), cells, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("size", "side"), [((64, 64), 1), ((256, 256), 4), ((352, 384), 4)])
def test_cells_cover_the_map_without_a_rest(size, side):
    assert EAGER.cells(torch.rand(1, 1, *size)).shape[-2:] == (size[0] // side, size[1] // side)


def test_exported_graphs_resize_weigh_and_smooth_in_one_product(products_only):
    draw = torch.Generator().manual_seed(3)
    maps = [(1.5, torch.randn(2, 1, 16, 12, generator=draw)), (-0.3, torch.randn(2, 1, 8, 6))]
    expected = EAGER.weighted_smooth(maps, (64, 48), sigma=1.3)
    by_hand = EAGER.smooth(sum(w * EAGER.resize(m, (64, 48)) for w, m in maps), sigma=1.3)
    torch.testing.assert_close(expected, by_hand)
    products_only("interpolate", "conv2d")
    torch.testing.assert_close(
        PRODUCTS.weighted_smooth(maps, (64, 48), sigma=1.3), expected, atol=5e-6, rtol=0
    )


@pytest.mark.parametrize("side", [64, 130])
def test_exported_graphs_dilate_the_object_by_products(side, products_only):
    foreground = torch.zeros(2, 1, side, side)
    foreground[0, 0, 10:20, 0:7] = 1
    foreground[1, 0, side - 1, 5] = 1
    expected = EAGER.dilated_foreground(foreground)
    assert expected.sum() > foreground.sum()
    products_only("max_pool2d")
    torch.testing.assert_close(PRODUCTS.dilated_foreground(foreground), expected, atol=0, rtol=0)
