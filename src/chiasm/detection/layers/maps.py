"""What detectors do to their maps: bring to size, smooth, keep to the object, score the part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def image_score(maps: Tensor, *, window_share: float = 1 / 24) -> Tensor:
    """Image-level score ``(N,)``: the largest local mean of a map ``(N, 1, S, S)``.

    EasyNet pools 21 x 21 pixels of 256; the share is of the side of the *object's crop*.
    """
    window = 2 * int(maps.shape[-1] * window_share / 2) + 1
    # Row means of column means: the same as a square's mean, and quicker than it.
    reach = window // 2

    def means(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, (1, window), 1, (0, reach), count_include_pad=False)

    return _both_ways(means, partial(_means_of, reach), maps).flatten(1).amax(dim=1)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corners not aligned; the tensor itself where it has the size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if torch.compiler.is_exporting():
        # Runtimes of graphs scale a single map a tenth as fast as they multiply it.
        return _products(x, *(_weights_of(old, new, x) for old, new in zip(x.shape[-2:], size)))
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _weights_of(old: int, new: int, like: Tensor) -> Tensor:
    """Weights ``(new, old)`` of linear interpolation along one axis."""
    place = (torch.arange(new, device=like.device, dtype=like.dtype) + 0.5) * (old / new) - 0.5
    away = place.clamp(0, old - 1)[:, None] - torch.arange(old, device=like.device)
    return (1 - away.abs()).clamp(min=0)


def _means_of(reach: int, size: int, like: Tensor) -> Tensor:
    """Weights ``(size, size)`` of the mean of what is at most ``reach`` away along one axis."""
    near = _near_of(reach, size, like)
    return near / near.sum(dim=1, keepdim=True)


def _blur_of(kernel: Tensor, size: int, like: Tensor) -> Tensor:
    """Weights ``(size, size)`` of a kernel along one axis whose ends are repeated."""
    place = torch.arange(size, device=like.device)
    offsets = torch.arange(len(kernel), device=like.device) - len(kernel) // 2
    seen = (place[:, None] + offsets).clamp(0, size - 1)[:, :, None] == place
    return (seen.to(like.dtype) * kernel[:, None]).sum(dim=1)


def _near_of(reach: int, size: int, like: Tensor) -> Tensor:
    """Zeros and ones ``(size, size)``: what is at most ``reach`` away along one axis."""
    place = torch.arange(size, device=like.device)
    return ((place[:, None] - place).abs() <= reach).to(like.dtype)


def _products(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """``down @ x @ across.T``."""
    return _turned(x, down, across).transpose(2, 3)


def _turned(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The transposed ``down @ x @ across.T``.

    Runtimes of graphs are quicker where the weights are the second factor.
    """
    return (x @ across.T).transpose(2, 3) @ down.T


def _both_ways(
    along_rows: Callable[[Tensor], Tensor], weights: Callable[[int, Tensor], Tensor], x: Tensor
) -> Tensor:
    """A linear operation along the rows of ``(N, 1, H, W)``, then along its columns.

    Args:
        along_rows: the operation.
        weights: its matrix, by length of an axis; used in graphs, as in ``resize``.
        x: the map.
    """
    if torch.compiler.is_exporting():
        return _products(x, *(weights(size, x) for size in x.shape[-2:]))
    return along_rows(along_rows(x).transpose(2, 3)).transpose(2, 3)


def smooth(x: Tensor, *, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` pixels over ``(N, 1, H, W)``, borders repeated."""
    kernel = _gaussian(sigma, x)
    radius = len(kernel) // 2

    def weighted(x: Tensor) -> Tensor:
        padded = F.pad(x, (radius, radius, 0, 0), mode="replicate")
        return F.conv2d(padded, kernel.view(1, 1, 1, -1))

    return _both_ways(weighted, partial(_blur_of, kernel), x)


def weighted_smooth(
    maps: Sequence[tuple[Tensor | float, Tensor]], size: Sequence[int], *, sigma: float
) -> Tensor:
    """``smooth`` of a weighted sum of maps ``(N, 1, h, w)`` that are brought to one size.

    Args:
        maps: each with its weight.
        size: height and width of the sum.
        sigma: pixels of the sum.
    """
    if not torch.compiler.is_exporting():
        return smooth(sum(weight * resize(one, size) for weight, one in maps), sigma=sigma)
    # All of it is linear: enlarging and smoothing are one product along each axis.
    kernel = _gaussian(sigma, maps[0][1])
    total = None
    for weight, one in maps:
        down, across = (
            _blur_of(kernel, new, one) @ _weights_of(old, new, one)
            for old, new in zip(one.shape[-2:], size)
        )
        turned = weight * _turned(one, down, across)
        total = turned if total is None else total + turned
    assert total is not None
    return total.transpose(2, 3)


def _gaussian(sigma: float, like: Tensor) -> Tensor:
    """Weights of a Gaussian at whole pixels, out to three standard deviations."""
    radius = int(3 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def dilated_foreground(foreground: Tensor) -> Tensor:
    """The mask ``(N, 1, S, S)`` widened by S/64 pixels: a missing piece lies where the object
    should be."""
    reach = foreground.shape[-1] // 64
    if torch.compiler.is_exporting():
        # How many pixels of the object are near, by products as in ``resize``.
        weights = (_near_of(reach, size, foreground) for size in foreground.shape[-2:])
        return (_products(foreground, *weights) > 0.5).to(foreground.dtype)
    across = F.max_pool2d(foreground, (1, 2 * reach + 1), 1, (0, reach))
    return F.max_pool2d(across, (2 * reach + 1, 1), 1, (reach, 0))


def cells_inside(foreground: Tensor, size: Sequence[int]) -> Tensor:
    """Bool ``(N, h, w)``: cells of a coarser grid that hold any pixel of ``(N, 1, S, S)``."""
    return F.adaptive_max_pool2d(foreground, tuple(size))[:, 0] > 0.5
