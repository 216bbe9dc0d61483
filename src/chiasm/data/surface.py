"""Surfaces of organised point clouds: normals and connected parts."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chiasm.samples import BoolArray, FloatArray


def surface_normals(xyz: FloatArray, valid: BoolArray, *, reach: int = 2) -> FloatArray:
    """Unit normals towards the camera, from measured neighbours only.

    The derivative along each image axis is the central difference where both neighbours are
    measured, the one-sided one where one is, and unknown where none is: then the normal is 0.

    Args:
        xyz: ``(H, W, 3)`` metres, camera at the origin.
        valid: ``(H, W)``.
        reach: distance of the neighbours in pixels. Two, because a crop that was enlarged by
            nearest neighbour holds some points twice, and for less noise.

    Returns:
        ``(H, W, 3)`` float32, 0 where unknown.
    """
    across, known_across = _derivative(xyz, valid, axis=1, reach=reach)
    along, known_along = _derivative(xyz, valid, axis=0, reach=reach)
    normals = np.cross(across, along)
    length = np.linalg.norm(normals, axis=2)
    known = valid & known_across & known_along & (length > 1e-20)
    normals /= np.maximum(length, 1e-20)[..., None]
    away = (normals * xyz).sum(axis=2) > 0
    normals[away] *= -1
    return np.where(known[..., None], normals, 0).astype(np.float32)


def _derivative(
    xyz: FloatArray, valid: BoolArray, *, axis: int, reach: int
) -> tuple[FloatArray, BoolArray]:
    points = np.moveaxis(xyz, axis, 0)
    measured = np.moveaxis(valid, axis, 0)
    step = points[reach:] - points[:-reach]
    both = measured[reach:] & measured[:-reach]
    step = np.where(both[..., None], step, 0)
    total = np.zeros_like(points)
    count = np.zeros(measured.shape, np.float32)
    total[:-reach] += step
    total[reach:] += step
    count[:-reach] += both
    count[reach:] += both
    mean = total / np.maximum(count, 1)[..., None]
    return np.moveaxis(mean, 0, axis), np.moveaxis(count > 0, 0, axis)


def largest_cluster(object_points: BoolArray, *, closing: int = 2) -> BoolArray:
    """The largest connected part, preferring parts that do not touch the frame's border.

    Gaps of up to ``2 * closing`` pixels do not divide a part; holes inside it are filled. Walls
    and other things that run out of the frame are left out while anything else is there.

    Args:
        object_points: ``(H, W)``.
        closing: radius in pixels.
    """
    square = np.ones((3, 3), bool)
    padded = np.pad(object_points, closing + 1)
    closed = ndimage.binary_closing(padded, square, iterations=max(closing, 1))
    closed = closed[closing + 1 : -closing - 1, closing + 1 : -closing - 1]
    labels, count = ndimage.label(closed, square)
    if count == 0:
        return np.zeros_like(object_points)
    sizes = np.bincount(labels.ravel())[1:].astype(float)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    inner = sizes.copy()
    inner[rim[rim > 0] - 1] = 0
    # A speck in the middle must not win over a part that is cut off by the frame.
    best = int(inner.argmax() if inner.max() > 0.1 * sizes.max() else sizes.argmax())
    filled: BoolArray = ndimage.binary_fill_holes(labels == best + 1)
    return filled
