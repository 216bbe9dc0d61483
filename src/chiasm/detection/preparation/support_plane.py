"""Fit the support plane of a part robustly to the border of the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.samples import BoolArray, FloatArray

_VOTES = 50_000  # per portion, which fits into the processor's cache


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane ``a x + b y + c z + d = 0`` with unit normal towards the camera at the origin.

    Attributes:
        coefficients: ``(a, b, c, d)``, so that the left side is the height in metres.
        noise: robust standard deviation of the border points' distances, metres.
    """

    coefficients: tuple[float, float, float, float]
    noise: float

    def height(self, xyz: FloatArray) -> FloatArray:
        """Return heights in metres above the plane, ``(..., 3)`` to ``(...)``."""
        a, b, c, d = self.coefficients
        return (xyz @ np.array([a, b, c], np.float32) + np.float32(d)).astype(np.float32)


def fit_support_plane(
    xyz: FloatArray,
    valid: BoolArray,
    *,
    border: float = 0.04,
    distance: float | None = None,
    iterations: int = 500,
    seed: int = 0,
    min_inliers: float = 0.3,
) -> Plane | None:
    """Fit the support plane to measured points in the border strips of the frame.

    Draws minimal samples of three points, evaluates all hypotheses at once, and fits the inliers
    by least squares. EasyNet draws fifty points, of which one outlier spoils a hypothesis.

    Args:
        xyz: ``(H, W, 3)`` metres.
        valid: ``(H, W)``.
        border: width of the strips as a share of the frame's longer side (10 px of 256).
        distance: metres within which a point is an inlier; None takes 0.5 % of the median distance
            from the camera (3 mm at 0.6 m).
        iterations: hypotheses.
        seed: of the samples.
        min_inliers: share of the border points that must agree.

    Returns:
        The plane, or None with too few points or too few inliers.
    """
    width = max(2, round(border * max(valid.shape)))
    measured = border_strips(xyz, width).compress(border_strips(valid, width), axis=0)
    points = np.ascontiguousarray(measured.T, np.float64)  # (xyz, points)
    number = points.shape[1]
    if number < 50:
        return None
    if distance is None:
        distance = 0.005 * float(np.median(np.sqrt(np.einsum("cp,cp->p", points, points))))
    rng = np.random.default_rng(seed)
    subset = points[:, rng.choice(number, min(number, 1500), replace=False)]
    corners = subset.T[rng.integers(0, subset.shape[1], (iterations, 3))]  # (hypotheses, 3, xyz)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > 1e-12
    if not usable.any():
        return None
    normals, corners = normals[usable] / lengths[usable, None], corners[usable]
    offsets = -(normals * corners[:, 0]).sum(axis=1)
    best = most_votes(subset, normals, offsets, distance)
    normal, offset = normals[best], float(offsets[best])
    inliers = np.zeros(0, np.bool_)
    for _ in range(3):
        previous, inliers = inliers, np.abs(normal @ points + offset) < distance
        if np.array_equal(inliers, previous):
            break  # the same points would give the same plane
        if np.count_nonzero(inliers) < max(30, min_inliers * number):
            return None
        inlier_points = points.compress(inliers, axis=1)
        normal, offset = _least_squares(inlier_points)
    if offset < 0:  # the camera at the origin is above the plane
        normal, offset = -normal, -offset
    residuals = np.abs(normal @ inlier_points + offset)
    a, b, c = (float(v) for v in normal)
    return Plane((a, b, c, float(offset)), noise=1.4826 * float(np.median(residuals)))


def border_strips(image: NDArray[Any], width: int) -> NDArray[Any]:
    """Return the pixels of the frame's border, ``(H, W, ...)`` to ``(P, ...)``, row by row.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``.
        width: of the strips in pixels; if opposite strips meet, all pixels belong to the border.
    """
    rest = image.shape[2:]
    if min(image.shape[:2]) <= 2 * width:
        return image.reshape(-1, *rest)
    sides = np.concatenate([image[width:-width, :width], image[width:-width, -width:]], axis=1)
    strips = (image[:width], sides, image[-width:])
    return np.concatenate([strip.reshape(-1, *rest) for strip in strips])


def most_votes(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    offsets: NDArray[np.float64],
    distance: float,
) -> int:
    """Return the index of the plane with the most inliers, the first of several.

    Counts inliers in portions of the points, and drops a plane as soon as it cannot reach the best
    one even with all remaining points. The result equals that of a full count.

    Args:
        points: ``(3, P)`` metres.
        normals, offsets: ``(N, 3)`` unit normals and ``(N,)`` metres.
        distance: metres.
    """
    homogeneous = np.concatenate([points, np.ones_like(points[:1])])  # the factor of the offset
    planes = np.concatenate([normals, offsets[:, None]], axis=1)

    def votes(indices: NDArray[np.intp], start: int, stop: int) -> NDArray[np.int32]:
        residuals = planes[indices] @ homogeneous[:, start:stop]  # (hypotheses, points)
        agree = np.abs(residuals, out=residuals) < distance
        return cv2.reduce(agree.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]

    candidates = np.arange(len(planes))
    total = np.zeros(len(planes), np.int32)
    number, start = points.shape[1], 0
    while start < number:
        stop = min(start + max(_VOTES // len(candidates), 1), number)
        total += votes(candidates, start, stop)
        if stop < number:
            leader = int(total.argmax())
            best = total[leader] + votes(candidates[leader : leader + 1], stop, number)[0]
            possible = total + (number - stop) >= best
            candidates, total = candidates[possible], total[possible]
        start = stop
    return int(candidates[total.argmax()])


def _least_squares(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    centre = points.mean(axis=1)
    centred = points - centre[:, None]
    _, _, directions = np.linalg.svd(centred @ centred.T)
    normal = directions[-1]
    return normal, -float(normal @ centre)
