"""Fast point feature histograms: curvature around each point of an organised cloud."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from chiasm.errors import ConfigurationError
from chiasm.samples import BoolArray, FloatArray

BINS = 11
Weighting = Literal["normalised", "paper"]
_LEAST_SINE = 1e-3  # of a normal with the joining line; below, float32 loses v's direction
_BLOCK = 512  # points at a time, so that the arrays over their pairs fit the cache


def fpfh(
    xyz: FloatArray,
    valid: BoolArray,
    normals: FloatArray | None = None,
    *,
    radius_feature: float = 0.25,
    max_nn: int = 100,
    radius_normal: float = 0.1,
    max_nn_normal: int = 30,
    weighting: Weighting = "normalised",
) -> FloatArray:
    """Describe every point by 3 x 11 bins of the angles between its neighbours' normals.

    A pair of points has its Darboux frame at the point whose normal lies nearer the line that
    joins them; its angles are ``alpha = v . n`` and ``phi = u . d``, both in [-1, 1], and
    ``theta = atan2(w . n, u . n)`` in [-pi, pi], each in 11 equal bins. A simple histogram holds
    the per cent of the pairs of a point with its neighbours in each bin; the feature adds to it
    those of the neighbours, weighted by proximity. Pairs without a frame (the same position
    twice, a normal within a thousandth of the joining line) do not count.

    The defaults are those of Horwitz & Hoshen at a voxel of 0.05 m (2 and 5 voxels): on parts of
    a few centimetres the radii never bind and the neighbourhood is ``max_nn`` points.

    Args:
        xyz: ``(H, W, 3)`` metres.
        valid: ``(H, W)``; only these points are described and used as neighbours.
        normals: ``(H, W, 3)`` unit normals, all to one side, 0 where unknown (such points are
            excluded); None estimates them with ``estimate_normals``.
        radius_feature: metres within which points are neighbours.
        max_nn: most points of a neighbourhood, the point itself among them.
        radius_normal: metres, for the normals, where they are estimated.
        max_nn_normal: as ``max_nn``, for the normals.
        weighting: ``"paper"`` adds the mean of the neighbours' histograms over their distance,
            whose size depends on the unit of length. ``"normalised"`` weighs by one over the
            squared distance and scales each angle's eleven bins to 100 per cent, as PCL and
            Open3D do, and hence the published results.

    Returns:
        ``(H, W, 33)`` float32, alpha, phi, theta; 0 where not valid, or without any pair.

    Raises:
        ConfigurationError: a radius that is not positive, or fewer than two points a neighbourhood.

    References:
        Rusu, Blodow, Beetz, Fast Point Feature Histograms (FPFH) for 3D Registration, ICRA 2009;
        Horwitz, Hoshen, Back to the Feature, CVPR Workshops 2023.
    """
    if weighting not in ("normalised", "paper"):
        raise ConfigurationError(f"weighting is {weighting!r}; it is 'normalised' or 'paper'.")
    if normals is None:
        normals = estimate_normals(xyz, valid, radius=radius_normal, max_nn=max_nn_normal)
    usable = valid & (normals != 0).any(axis=2)
    out = np.zeros((*valid.shape, 3 * BINS), np.float32)
    points, numbers, squared = _neighbourhoods(xyz, usable, radius_feature, max_nn)
    if numbers.numel() == 0:
        return out
    directions = torch.from_numpy(np.ascontiguousarray(normals[usable].T))
    simple, weights = _simple_histograms(points, directions, numbers, squared)
    if weighting == "paper":
        weights = weights.sqrt_()
    # One bag of weighted rows for each point: the sum over its neighbours.
    around = F.embedding_bag(numbers, simple, mode="sum", per_sample_weights=weights)
    if weighting == "paper":
        around /= (weights > 0).sum(dim=1, keepdim=True).clamp(min=1)
    else:
        around = around.view(-1, 3, BINS)  # n 3*11 -> n 3 11
        total = around.sum(dim=2, keepdim=True)
        around = (around * (100 / torch.where(total > 0, total, 1))).flatten(1)
    out[usable] = (simple + around).numpy()
    return out


def estimate_normals(
    xyz: FloatArray, valid: BoolArray, *, radius: float = 0.1, max_nn: int = 30
) -> FloatArray:
    """Estimate unit normals towards the camera: the least principal axis of each neighbourhood.

    Args:
        xyz: ``(H, W, 3)`` metres, camera at the origin.
        valid: ``(H, W)``.
        radius: metres within which points are neighbours.
        max_nn: most points of a neighbourhood, the point itself among them.

    Returns:
        ``(H, W, 3)`` float32, 0 where not valid or fewer than three points are near.
    """
    out = np.zeros((*valid.shape, 3), np.float32)
    points, numbers, squared = _neighbourhoods(xyz, valid, radius, max_nn)
    if numbers.numel() == 0:
        return out
    near = (squared < torch.inf).float()
    offset = (points[:, numbers] - points[..., None]) * near  # 3 n k, 0 for the point itself
    count = near.sum(dim=1) + 1
    moments = torch.einsum("ank,bnk->nab", offset, offset).double() / count[:, None, None]
    mean = offset.sum(dim=2).T.double() / count[:, None]
    spread = moments - mean[:, :, None] * mean[:, None, :]
    normals = np.linalg.eigh(spread.numpy())[1][:, :, 0]
    normals[(normals * points.T.numpy()).sum(axis=1) > 0] *= -1
    normals[count.numpy() < 3] = 0
    out[valid] = normals
    return out


def _simple_histograms(
    points: Tensor, normals: Tensor, numbers: Tensor, squared: Tensor
) -> tuple[Tensor, Tensor]:
    """Per cent ``(n, 33)`` of pairs in each bin, and 1 / squared distance ``(n, k)``, 0 if unused.

    Args are ``(3, n)``, ``(3, n)``, ``(n, k)`` and ``(n, k)``, infinite where there is no
    neighbour.
    """
    count, others = numbers.shape
    histograms = torch.zeros(count, 3 * BINS)
    weights = torch.zeros(count, others)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        neighbour = numbers[block].reshape(-1)
        size = block.stop - block.start
        d2 = squared[block]
        weight = torch.where((d2 > 0) & (d2 < torch.inf), 1 / d2, 0)
        scale = weight.sqrt()
        position = points[:, block, None]
        dx, dy, dz = (
            (points[axis].take(neighbour).view(size, -1) - position[axis]) * scale
            for axis in range(3)
        )
        mx, my, mz = (normals[axis].take(neighbour).view(size, -1) for axis in range(3))
        nx, ny, nz = normals[:, block, None]
        cosine_n = nx * dx + ny * dy + nz * dz
        cosine_m = mx * dx + my * dy + mz * dz
        cosine = nx * mx + ny * my + nz * mz
        # The frame stands at the other point where that normal is nearer the joining line. With
        # u the frame's normal, m the other's and d from frame to other, v = d x u / |d x u| and
        # w = u x v, so v . m = d . (u x m) / |d x u| and w . m = (m.d - (u.d)(u.m)) / |d x u|:
        # the triple product keeps its sign when the points change places.
        swap = cosine_m.abs() > cosine_n.abs()
        phi = torch.where(swap, -cosine_m, cosine_n)
        along = torch.where(swap, -cosine_n, cosine_m)
        triple = dx * (ny * mz - nz * my) + dy * (nz * mx - nx * mz) + dz * (nx * my - ny * mx)
        sine2 = 1 - phi * phi
        weight = torch.where(sine2 > _LEAST_SINE**2, weight, 0)
        inverse = sine2.clamp_(min=_LEAST_SINE**2).rsqrt_()
        theta = torch.atan2((along - phi * cosine).mul_(inverse), cosine)
        angles = ((triple.mul_(inverse), 0.5), (phi, 0.5), (theta, 0.5 / np.pi))
        row = torch.arange(size)[:, None] * (BINS + 1)
        unused = weight == 0
        pairs = (others - unused.sum(dim=1, keepdim=True)).clamp(min=1)
        for part, (angle, stretch) in enumerate(angles):
            bins = angle.mul_(stretch * BINS).add_(0.5 * BINS).long().clamp_(0, BINS - 1)
            bins.masked_fill_(unused, BINS).add_(row)
            table = torch.bincount(bins.view(-1), minlength=size * (BINS + 1))
            table = table.view(size, BINS + 1)[:, :BINS]  # (n 12) -> n 11, the last are unused
            histograms[block, part * BINS : (part + 1) * BINS] = table * 100 / pairs
        weights[block] = weight
    return histograms, weights


def _neighbourhoods(
    xyz: FloatArray, valid: BoolArray, radius: float, max_nn: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the ``max_nn - 1`` nearest other points within the radius, by a k-d tree.

    Queries follow the rows of the grid, so that one finds the memory of the one before in the
    cache. A window of the grid might save half of the time, but is exact only where no point
    outside can be nearer.

    Returns points ``(3, n)``, numbers ``(n, k)`` of the neighbours among them, and squared
    distances ``(n, k)``, infinite (and the number 0) where there are fewer.
    """
    if not radius > 0 or max_nn < 2:
        raise ConfigurationError(
            f"A neighbourhood has radius {radius} m and {max_nn} points; it needs a radius above "
            "0 and at least 2 points, the point itself among them."
        )
    points = np.ascontiguousarray(xyz[valid], dtype=np.float64)
    total = len(points)
    count = min(max_nn, total)
    if count < 2:
        empty = torch.zeros(total, 0)
        return torch.from_numpy(points.T.astype(np.float32)), empty.long(), empty
    # The tree returns points strictly nearer than its bound.
    bound = np.nextafter(radius, np.inf)
    distance, numbers = cKDTree(points).query(points, k=count, distance_upper_bound=bound)
    # A point need not be its own first neighbour where another has the same position.
    itself = numbers == np.arange(total)[:, None]
    itself[~itself.any(axis=1), -1] = True
    shape = (total, count - 1)
    distance, numbers = distance[~itself].reshape(shape), numbers[~itself].reshape(shape)
    numbers[np.isinf(distance)] = 0
    squared = torch.from_numpy(distance).square_().float()
    return torch.from_numpy(points.T.astype(np.float32)), torch.from_numpy(numbers), squared
