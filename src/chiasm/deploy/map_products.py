"""Postprocessing of anomaly maps as matrix products, for exported graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.detection.layers.maps import (
    cell_side,
    dilation_radius,
    gaussian_kernel,
    window_radius,
)


class MapProducts(nn.Module):
    """The operations of ``MapPostprocessing`` as products with one matrix per axis.

    All of them are linear along each axis, up to the maximum or the threshold at the end. Runtimes
    of graphs resize a single map at a tenth of the speed at which they multiply it.
    """

    def resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """As ``MapPostprocessing.resize``."""
        if tuple(x.shape[-2:]) == tuple(size):
            return x
        return _product(x, *(_resizing(old, new, x) for old, new in zip(x.shape[-2:], size)))

    def smooth(self, x: Tensor, *, sigma: float) -> Tensor:
        """As ``MapPostprocessing.smooth``."""
        kernel = gaussian_kernel(sigma, x)
        return _product(x, *(_smoothing(kernel, side, x) for side in x.shape[-2:]))

    def weighted_smooth(
        self, maps: Sequence[tuple[Tensor | float, Tensor]], size: Sequence[int], *, sigma: float
    ) -> Tensor:
        """As ``MapPostprocessing.weighted_smooth``, resizing and smoothing in one product."""
        kernel = gaussian_kernel(sigma, maps[0][1])
        total: Tensor | None = None
        for weight, x in maps:
            rows, columns = (
                _smoothing(kernel, new, x) @ _resizing(old, new, x)
                for old, new in zip(x.shape[-2:], size)
            )
            term = weight * _transposed_product(x, rows, columns)
            total = term if total is None else total + term
        assert total is not None
        return total.transpose(2, 3)

    def dilated_foreground(self, foreground: Tensor) -> Tensor:
        """As ``MapPostprocessing.dilated_foreground``: count the object's pixels in reach."""
        radius = dilation_radius(foreground)
        windows = (_window(radius, side, foreground) for side in foreground.shape[-2:])
        return (_product(foreground, *windows) > 0.5).to(foreground.dtype)

    def local_means(self, maps: Tensor, *, window: float) -> Tensor:
        """As ``MapPostprocessing.local_means``."""
        radius = window_radius(maps, window)
        windows = (_window(radius, side, maps) for side in maps.shape[-2:])
        means = (ones / ones.sum(dim=1, keepdim=True) for ones in windows)
        return _product(maps, *means)

    def cells(self, maps: Tensor) -> Tensor:
        """As ``MapPostprocessing.cells``."""
        side = cell_side(maps)
        return _product(maps, *(_averaging(side, length, maps) for length in maps.shape[-2:]))


def _resizing(old: int, new: int, like: Tensor) -> Tensor:
    """Weights ``(new, old)`` of linear interpolation along one axis."""
    position = (torch.arange(new, device=like.device, dtype=like.dtype) + 0.5) * (old / new) - 0.5
    distance = position.clamp(0, old - 1)[:, None] - torch.arange(old, device=like.device)
    return (1 - distance.abs()).clamp(min=0)


def _smoothing(kernel: Tensor, size: int, like: Tensor) -> Tensor:
    """Weights ``(size, size)`` of a kernel along one axis whose ends are repeated."""
    position = torch.arange(size, device=like.device)
    offsets = torch.arange(len(kernel), device=like.device) - len(kernel) // 2
    read = (position[:, None] + offsets).clamp(0, size - 1)[:, :, None] == position
    return (read.to(like.dtype) * kernel[:, None]).sum(dim=1)


def _window(radius: int, size: int, like: Tensor) -> Tensor:
    """Ones ``(size, size)`` at most ``radius`` from the diagonal, zeros elsewhere."""
    position = torch.arange(size, device=like.device)
    return ((position[:, None] - position).abs() <= radius).to(like.dtype)


def _averaging(side: int, size: int, like: Tensor) -> Tensor:
    """Weights ``(size / side, size)`` of the means of ``side`` neighbours along one axis."""
    cell = torch.arange(size, device=like.device) // side
    number = torch.arange(size // side, device=like.device)
    return (number[:, None] == cell).to(like.dtype) / side


def _product(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Compute ``rows @ x @ columns.T``."""
    return _transposed_product(x, rows, columns).transpose(2, 3)


def _transposed_product(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Compute the transpose of ``rows @ x @ columns.T``.

    Runtimes of graphs are faster where the weights are the second factor.
    """
    return (x @ columns.T).transpose(2, 3) @ rows.T
