"""A height field with material, seen in plan, and the functions that draw one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike

from chiasm.samples import FloatArray

Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A height field over the support plane with its material, on a square grid in plan.

    Attributes:
        height: ``(P, P)`` float32, millimetres above the support plane.
        albedo: ``(P, P, 3)`` float32 in [0, 1], linear light.
        metal: ``(P, P)`` float32 in [0, 1], share of the material's colour in reflections.
        gloss: ``(P, P)`` float32 in [0, 1], strength of the highlight.
        part: ``(P, P)`` float32 in [0, 1], 1 on the part, 0 on the support.
        across: ``(P, P, 2)`` float32 unit vectors in plan, across the marks of turned or brushed
            metal, which scatter light that way; None without such marks.
    """

    height: FloatArray
    albedo: FloatArray
    metal: FloatArray
    gloss: FloatArray
    part: FloatArray
    across: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates of the plan's grid points in the part's own axes.

    Attributes:
        x, y: ``(P, P)`` float32, millimetres from the part's centre.
        per_mm: grid points per millimetre.
        rotation: radians from the plan's axes to the part's.
    """

    x: FloatArray
    y: FloatArray
    per_mm: float
    rotation: float = 0.0

    @cached_property
    def outward(self) -> FloatArray:
        """Unit vectors ``(P, P, 2)`` away from the centre, along the plan's axes."""
        angle = self.angle + np.float32(self.rotation)
        return np.dstack([np.cos(angle), np.sin(angle)])

    @property
    def shape(self) -> tuple[int, int]:
        """Grid points along each axis."""
        return self.x.shape[0], self.x.shape[1]

    @cached_property
    def radius(self) -> FloatArray:
        """Distance from the centre in millimetres."""
        return np.hypot(self.x, self.y)

    @cached_property
    def angle(self) -> FloatArray:
        """Polar angle in radians, in [-pi, pi]."""
        return np.arctan2(self.y, self.x)


def frame_at(
    points: int, per_mm: float, rotation: float, centre: tuple[float, float], stretch: float
) -> Frame:
    """Place the part's axes on a plan grid of ``points`` squared.

    ``rotation`` is the part's in-plane rotation in radians, ``centre`` its position in
    millimetres and ``stretch`` its size relative to nominal.
    """
    line = ((np.arange(points) - (points - 1) / 2) / per_mm).astype(np.float32)
    x = (line[None, :] - np.float32(centre[0])) / np.float32(stretch)
    y = (line[:, None] - np.float32(centre[1])) / np.float32(stretch)
    cosine, sine = np.float32(np.cos(rotation)), np.float32(np.sin(rotation))
    return Frame(cosine * x + sine * y, cosine * y - sine * x, per_mm, rotation)


def rise(t: FloatArray) -> FloatArray:
    """Smoothstep: 0 below 0, 1 above 1, and smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def inside(distance: FloatArray, soft: float = 0.5) -> FloatArray:
    """Coverage of a signed distance (mm, negative inside); the edge is ``soft`` mm wide."""
    return rise(np.float32(0.5) - distance / np.float32(soft))


def rounded(distance: FloatArray, fillet: float) -> FloatArray:
    """Profile in [0, 1] of a body whose upper edge is rounded over ``fillet`` millimetres."""
    t = 1 - np.clip(-distance / np.float32(fillet), 0, 1)
    return np.sqrt(np.maximum(1 - t * t, 0))


def box_distance(x: FloatArray, y: FloatArray, half: ArrayLike, corner: float = 0.0) -> FloatArray:
    """Signed distance in mm to a rectangle of half-sizes ``half`` with rounded corners."""
    half_x, half_y = np.asarray(half, dtype=np.float32) - np.float32(corner)
    dx, dy = np.abs(x) - half_x, np.abs(y) - half_y
    outer = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outer + np.minimum(np.maximum(dx, dy), 0) - np.float32(corner)


def patches(shape: tuple[int, int], cell: float, rng: Rng) -> FloatArray:
    """Draw smooth noise of at most unit variance with patches about ``cell`` grid points wide."""
    small = (max(2, round(shape[0] / cell) + 1), max(2, round(shape[1] / cell) + 1))
    coarse = rng.standard_normal(small, dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def streaks(along: FloatArray, spacing: float, rng: Rng) -> FloatArray:
    """Draw noise that varies along one coordinate only: turning marks, brushing."""
    low, high = float(along.min()), float(along.max())
    knots = rng.standard_normal(max(4, int((high - low) / spacing) + 2)).astype(np.float32)
    position = (along - np.float32(low)) * np.float32((len(knots) - 1) / max(high - low, 1e-6))
    lower = np.minimum(position.astype(np.int32), len(knots) - 2)
    share = position - lower
    return knots[lower] * (1 - share) + knots[lower + 1] * share


def painted(
    colour: ArrayLike, shape: tuple[int, int], variation: FloatArray | float = 0.0
) -> FloatArray:
    """Fill the grid with one colour, modulated by a relative ``variation``."""
    factor = np.broadcast_to(np.asarray(1 + variation, dtype=np.float32), shape)
    albedo = factor[..., None] * np.asarray(colour, dtype=np.float32)
    return np.clip(albedo, 0, 1, out=albedo)


def blend(under: FloatArray, over: ArrayLike, share: FloatArray) -> FloatArray:
    """Mix ``over`` into ``under`` by ``share`` in [0, 1] at each grid point."""
    if under.ndim == 3:
        share = share[..., None]
    return under + (np.asarray(over, dtype=np.float32) - under) * share
