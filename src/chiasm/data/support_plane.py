"""The plane that a part lies on, found robustly from the frame's border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiasm.samples import BoolArray, FloatArray


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
        """Metres above the plane, ``(..., 3)`` to ``(...)``."""
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
    least_inliers: float = 0.3,
) -> Plane | None:
    """Fit the support plane to measured points in the border strips of the frame.

    Minimal samples of three points, all hypotheses at once, then least squares on the inliers.
    Three and not EasyNet's fifty: one outlier among fifty spoils a hypothesis.

    Args:
        xyz: ``(H, W, 3)`` metres.
        valid: ``(H, W)``.
        border: width of the strips as a share of the frame's longer side (10 px of 256).
        distance: metres within which a point is an inlier; None takes 0.5 % of the median distance
            from the camera (3 mm at 0.6 m).
        iterations: hypotheses.
        seed: of the samples.
        least_inliers: share of the border points that must agree.

    Returns:
        The plane, or None where there are too few points or no plane that enough agree on.
    """
    width = max(2, round(border * max(valid.shape)))
    strip = np.ones_like(valid)
    strip[width:-width, width:-width] = False
    points = xyz[strip & valid].astype(np.float64)
    if len(points) < 50:
        return None
    if distance is None:
        distance = 0.005 * float(np.median(np.linalg.norm(points, axis=1)))
    draw = np.random.default_rng(seed)
    few = points[draw.choice(len(points), min(len(points), 1500), replace=False)]
    corners = few[draw.integers(0, len(few), (iterations, 3))]  # (hypotheses, 3, xyz)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > 1e-12
    if not usable.any():
        return None
    normals, corners = normals[usable] / lengths[usable, None], corners[usable]
    offsets = -(normals * corners[:, 0]).sum(axis=1)
    votes = (np.abs(few @ normals.T + offsets) < distance).sum(axis=0)
    best = int(votes.argmax())
    normal, offset = normals[best], float(offsets[best])
    for _ in range(3):
        inliers = np.abs(points @ normal + offset) < distance
        if inliers.sum() < max(30, least_inliers * len(points)):
            return None
        normal, offset = _least_squares(points[inliers])
    if offset < 0:  # the camera at the origin is above the plane
        normal, offset = -normal, -offset
    residuals = np.abs(points[inliers] @ normal + offset)
    a, b, c = (float(v) for v in normal)
    return Plane((a, b, c, float(offset)), noise=1.4826 * float(np.median(residuals)))


def _least_squares(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    centre = points.mean(axis=0)
    _, _, directions = np.linalg.svd(np.cov((points - centre).T))
    normal = directions[-1]
    return normal, -float(normal @ centre)
