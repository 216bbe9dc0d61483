"""Postprocessing of anomaly maps: resize, smooth, keep to the object, average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MapPostprocessing(nn.Module):
    """Operations on maps ``(N, 1, H, W)`` that every detector applies to its anomaly maps.

    A module without parameters or buffers, so that export can replace it: see
    ``chiasm.deploy.map_products``.
    """

    def resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Resize bilinearly, corners not aligned; return ``x`` itself where the size fits."""
        if tuple(x.shape[-2:]) == tuple(size):
            return x
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)

    def smooth(self, x: Tensor, *, sigma: float) -> Tensor:
        """Smooth with a Gaussian of ``sigma`` pixels, borders repeated."""
        kernel = gaussian_kernel(sigma, x)
        radius = len(kernel) // 2
        for _ in range(2):  # along the rows, then along the columns
            padded = F.pad(x, (radius, radius, 0, 0), mode="replicate")
            x = F.conv2d(padded, kernel.view(1, 1, 1, -1)).transpose(2, 3)
        return x

    def weighted_smooth(
        self, maps: Sequence[tuple[Tensor | float, Tensor]], size: Sequence[int], *, sigma: float
    ) -> Tensor:
        """Resize maps ``(N, 1, h, w)`` to one size, sum them by weight and smooth the sum.

        Args:
            maps: weight and map of each.
            size: height and width of the sum.
            sigma: pixels of the sum.
        """
        zero = maps[0][1].new_zeros(())
        total = sum((weight * self.resize(x, size) for weight, x in maps), start=zero)
        return self.smooth(total, sigma=sigma)

    def dilated_foreground(self, foreground: Tensor) -> Tensor:
        """Dilate the mask ``(N, 1, S, S)`` by S/64 pixels.

        A missing piece lies where the object should be, beside the mask.
        """
        radius = dilation_radius(foreground)
        dilated = F.max_pool2d(foreground, (1, 2 * radius + 1), 1, (0, radius))
        return F.max_pool2d(dilated, (2 * radius + 1, 1), 1, (radius, 0))

    def local_means(self, maps: Tensor, *, window: float) -> Tensor:
        """Average the pixels of a square around each pixel, at the border those inside the map.

        Args:
            maps: ``(N, 1, H, W)``.
            window: side of the square as a share of the width, see ``window_radius``.
        """
        radius = window_radius(maps, window)
        # Row means of column means equal a square's mean and are faster to compute.
        for _ in range(2):
            maps = F.avg_pool2d(
                maps, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False
            ).transpose(2, 3)
        return maps

    def cells(self, maps: Tensor) -> Tensor:
        """Average the pixels of each square cell of about a 64th of the side."""
        return F.avg_pool2d(maps, cell_side(maps))


def window_radius(maps: Tensor, window: float) -> int:
    """Compute how far a window of a share of the width reaches from its centre, in pixels.

    EasyNet pools 21 x 21 pixels of 256; the share is of the side of the *object's crop*.
    """
    return int(maps.shape[-1] * window / 2)


def cell_side(maps: Tensor) -> int:
    """Compute the side of a cell: the largest power of two that divides both sides of the map.

    It is at most a 64th of the shorter side, and at least one pixel.
    """
    height, width = maps.shape[-2:]
    side = 1
    while 128 * side <= min(height, width) and not (height % (2 * side) or width % (2 * side)):
        side *= 2
    return side


def dilation_radius(foreground: Tensor) -> int:
    """Compute by how many pixels ``dilated_foreground`` dilates a mask."""
    return foreground.shape[-1] // 64


def gaussian_kernel(sigma: float, like: Tensor) -> Tensor:
    """Compute a Gaussian's weights at whole pixels, out to three standard deviations.

    Args:
        sigma: standard deviation in pixels.
        like: tensor of the weights' type and device.
    """
    radius = int(3 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def cells_inside(foreground: Tensor, size: Sequence[int]) -> Tensor:
    """Bool ``(N, h, w)``: cells of a coarser grid that hold any pixel of ``(N, 1, S, S)``."""
    return F.adaptive_max_pool2d(foreground, tuple(size))[:, 0] > 0.5
