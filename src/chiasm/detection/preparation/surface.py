"""Normals and connected parts of organised point clouds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import BoolArray, FloatArray

_BAND = 64  # rows per band, whose intermediate results fit into the processor's cache


def surface_normals(xyz: FloatArray, valid: BoolArray, *, reach: int = 2) -> FloatArray:
    """Compute unit normals towards the camera from measured neighbours only.

    The derivative along each image axis is the central difference if both neighbours are
    measured, and the one-sided difference if one is. Without a measured neighbour the normal is 0.

    Args:
        xyz: ``(H, W, 3)`` metres, camera at the origin.
        valid: ``(H, W)``.
        reach: distance of the neighbours in pixels. Two reduces noise, and a crop that was
            enlarged by nearest neighbour holds some points twice.

    Returns:
        ``(H, W, 3)`` float32, 0 where unknown.
    """
    normals = np.zeros(xyz.shape, np.float32)
    window = window_of(valid)
    inner, measured, points = normals[window], valid[window], xyz[window]
    for top in range(0, len(inner), _BAND):
        rows = slice(max(top - reach, 0), top + _BAND + reach)
        planes = np.moveaxis(points[rows], 2, 0).astype(np.float32, order="C")
        band = _normals(planes, measured[rows], reach=reach)
        inner[top : top + _BAND] = band[top - rows.start : top - rows.start + _BAND]
    return normals


def window_of(mask: BoolArray, margin: int = 0) -> tuple[slice, slice]:
    """Return rows and columns of the smallest window around a mask ``(H, W)``, plus a margin."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (
        slice(max(y - margin, 0), y + height + margin),
        slice(max(x - margin, 0), x + width + margin),
    )


def _normals(points: FloatArray, valid: BoolArray, *, reach: int) -> FloatArray:
    """Compute ``surface_normals`` of points ``(3, H, W)``."""
    across, has_across = _derivative(points, valid, axis=1, reach=reach)
    along, has_along = _derivative(points, valid, axis=0, reach=reach)
    normals = np.empty_like(points)
    for normal, (i, j) in zip(normals, pairwise((1, 2, 0, 1)), strict=True):  # a cross product
        np.multiply(across[i], along[j], out=normal)
        normal -= across[j] * along[i]
    length = np.sqrt(_dot(normals, normals))
    has_normal = valid & has_across & has_along & (length > 1e-20)
    np.putmask(length, ~has_normal, np.inf)
    # Flip the normals that point away from the camera.
    normals /= np.copysign(length, 0 - _dot(normals, points), out=length)
    return cv2.merge(list(normals))


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    products = a * b
    products[0] += products[1]
    products[0] += products[2]
    return products[0]


def _derivative(
    points: FloatArray, valid: BoolArray, *, axis: int, reach: int
) -> tuple[FloatArray, BoolArray]:
    """Return summed steps ``(3, H, W)`` to the measured neighbours, and a mask of pixels with one.

    A normal depends only on the direction, which the sum and the mean share.
    """
    size = valid.shape[axis]
    rest = (slice(None),) * (1 - axis)
    below: tuple[Any, ...] = (..., slice(None, max(size - reach, 0)), *rest)
    above: tuple[Any, ...] = (..., slice(reach, None), *rest)
    both = valid[above] & valid[below]
    has_step = np.zeros_like(valid)
    has_step[below] = both
    has_step[above] |= both
    step = points[above] - points[below]
    step *= both
    total = np.zeros_like(points)
    total[below] = step
    total[above] += step
    return total, has_step


def largest_cluster(object_points: BoolArray, *, closing: int = 2) -> BoolArray:
    """Return the largest connected part, preferring parts that do not touch the frame's border.

    Gaps of up to ``2 * closing`` pixels do not divide a part; holes inside it are filled. Walls
    and other objects that cross the frame's border are taken only without another part. Of parts
    of equal size, the one whose first pixel comes first, row by row, is taken.

    Args:
        object_points: ``(H, W)``.
        closing: radius in pixels.
    """
    filled = np.zeros_like(object_points)
    if not object_points.any():
        return filled
    window = window_of(object_points)  # closing does not extend it
    points, filled_window = object_points[window], filled[window]
    closing = max(closing, 1)
    # Dilation may leave the window before erosion shrinks the mask back.
    square = np.ones((2 * closing + 1, 2 * closing + 1), np.uint8)
    closed = cv2.morphologyEx(padded(points, closing), cv2.MORPH_CLOSE, square)
    closed = closed[closing:-closing, closing:-closing]
    # Labels of 16 bits take half the time, if they suffice.
    height, width = points.shape
    kind = cv2.CV_16U if (height + 1) // 2 * ((width + 1) // 2) < 2**16 - 1 else cv2.CV_32S
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(closed, None, None, None, 8, kind)
    left, top, part_width, part_height, sizes = boxes[1:].T
    x, y = left + window[1].start, top + window[0].start  # in the frame
    rows, columns = object_points.shape
    inside = (x > 0) & (y > 0) & (x + part_width < columns) & (y + part_height < rows)
    inner = np.where(inside, sizes, 0)
    # A speck in the middle must not win over a part that the frame cuts off.
    ranked = inner if inner.max() > 0.1 * sizes.max() else sizes
    tied = np.flatnonzero(ranked == ranked.max()) + 1
    best = int(tied[0])
    if len(tied) > 1:
        best = int(labels.flat[np.isin(labels, tied).argmax()])
    first_column, first_row, across, along = (int(v) for v in boxes[best, :4])
    box = slice(first_row, first_row + along), slice(first_column, first_column + across)
    # Pixels that are connected to the outside of the box by edges are not a hole.
    ground = padded(labels[box] == best, 1)
    cv2.floodFill(ground, None, (0, 0), 2, flags=4)
    filled_window[box] = ground[1:-1, 1:-1] != 2
    return filled


def padded(mask: BoolArray, width: int) -> NDArray[np.uint8]:
    """Return a mask ``(H, W)`` with ``width`` pixels of 0 around it."""
    sides = (width,) * 4
    padded: np.ndarray = cv2.copyMakeBorder(
        mask.view(np.uint8), *sides, cv2.BORDER_CONSTANT, value=0
    )
    return padded
