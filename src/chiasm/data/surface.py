"""Surfaces of organised point clouds: normals and connected parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

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
    points = cv2.split(np.asarray(xyz, np.float32))  # three (H, W): strides of 3 are slow
    across, known_across = _derivative(points, valid, axis=1, reach=reach)
    along, known_along = _derivative(points, valid, axis=0, reach=reach)
    normal = [
        across[i] * along[j] - across[j] * along[i] for i, j in pairwise((1, 2, 0, 1))
    ]  # the cross product
    length = np.sqrt(_dot(normal, normal))
    known = valid & known_across & known_along & (length > 1e-20)
    away = _dot(normal, points) > 0
    np.negative(length, out=length, where=away)
    length[~known] = np.inf
    for component in normal:
        component /= length
    return cv2.merge(normal)


def _dot(a: Sequence[FloatArray], b: Sequence[FloatArray]) -> FloatArray:
    total = a[0] * b[0]
    total += a[1] * b[1]
    total += a[2] * b[2]
    return total


def _derivative(
    points: Sequence[FloatArray], valid: BoolArray, *, axis: int, reach: int
) -> tuple[list[FloatArray], BoolArray]:
    """Mean step to the measured neighbours of each component, and where there is one."""
    size = valid.shape[axis]
    near, far = (
        (slice(None),) * axis + (part,)
        for part in (slice(None, max(size - reach, 0)), slice(reach, None))
    )
    both = valid[far] & valid[near]
    share = np.zeros(valid.shape, np.float32)  # of each step in the mean: 1 or a half
    share[near] += both
    share[far] += both
    known = share > 0
    share[share > 1] = 0.5
    means = []
    for component in points:
        step = component[far] - component[near]
        step *= both
        mean = np.zeros_like(component)
        mean[near] += step
        mean[far] += step
        mean *= share
        means.append(mean)
    return means, known


def largest_cluster(object_points: BoolArray, *, closing: int = 2) -> BoolArray:
    """The largest connected part, preferring parts that do not touch the frame's border.

    Gaps of up to ``2 * closing`` pixels do not divide a part; holes inside it are filled. Walls
    and other things that run out of the frame are left out while anything else is there. Of parts
    of one size, the one whose first pixel comes first, row by row, is taken.

    Args:
        object_points: ``(H, W)``.
        closing: radius in pixels.
    """
    closing = max(closing, 1)
    height, width = object_points.shape
    # The pad lets the closing grow out of the frame and shrink back.
    padded = np.pad(object_points.view(np.uint8), closing)
    square = np.ones((2 * closing + 1, 2 * closing + 1), np.uint8)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, square)
    closed = closed[closing : closing + height, closing : closing + width]
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    if count == 1:  # nothing but the background
        return np.zeros_like(object_points)
    left, top, wide, high, sizes = boxes[1:].T
    inside = (left > 0) & (top > 0) & (left + wide < width) & (top + high < height)
    inner = np.where(inside, sizes, 0)
    # A speck in the middle must not win over a part that is cut off by the frame.
    ranked = inner if inner.max() > 0.1 * sizes.max() else sizes
    tied = np.flatnonzero(ranked == ranked.max()) + 1
    best = int(tied[0])
    if len(tied) > 1:
        best = int(labels.flat[np.isin(labels, tied).argmax()])
    x, y, w, h = (int(v) for v in boxes[best, :4])
    # What is joined to the outside of the box, edge by edge, is not a hole.
    ground = np.pad((labels[y : y + h, x : x + w] == best).view(np.uint8), 1)
    cv2.floodFill(ground, None, (0, 0), 2, flags=4)
    filled = np.zeros_like(object_points)
    filled[y : y + h, x : x + w] = ground[1:-1, 1:-1] != 2
    return filled
