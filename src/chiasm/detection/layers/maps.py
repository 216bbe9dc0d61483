"""Postprocessing of anomaly maps: resize, smooth, keep to the object, score the part."""

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

    def image_score(self, maps: Tensor) -> Tensor:
        """Compute image-level scores ``(N,)``: the largest local mean of each map.

        EasyNet pools 21 x 21 pixels of 256; the share is of the side of the *object's crop*.
        """
        radius = score_radius(maps)
        # Row means of column means equal a square's mean and are faster to compute.
        for _ in range(2):
            maps = F.avg_pool2d(
                maps, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False
            ).transpose(2, 3)
        return maps.flatten(1).amax(dim=1)


def score_radius(maps: Tensor) -> int:
    """Compute how far the window of ``image_score`` reaches from its centre, in pixels."""
    return int(maps.shape[-1] * (1 / 24) / 2)


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
