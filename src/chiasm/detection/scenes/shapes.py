"""Turned and baked products: round parts as analytic height fields."""

from __future__ import annotations

import numpy as np

from chiasm.detection.scenes.surface import (
    Frame,
    Rng,
    Surface,
    blend,
    inside,
    painted,
    patches,
    rise,
    rounded,
    streaks,
)
from chiasm.samples import FloatArray


def bores(frame: Frame, count: int, circle_radius: float, radius: float) -> FloatArray:
    """Return the signed distance in millimetres to the nearest of ``count`` holes on a circle."""
    step = 2 * np.pi / count
    nearest = np.round(frame.angle / step) * np.float32(step)
    offset = frame.angle - nearest
    r = frame.radius
    return np.hypot(r * np.cos(offset) - circle_radius, r * np.sin(offset)) - np.float32(radius)


def flange(frame: Frame, rng: Rng) -> Surface:
    """Draw a turned steel flange: disc, raised hub with a bore, six countersunk bolt holes."""
    outer, hub, bore = 42 + rng.normal(0, 0.4), 19 + rng.normal(0, 0.3), 10 + rng.normal(0, 0.2)
    thickness, hub_height = 7 + rng.normal(0, 0.25), 7 + rng.normal(0, 0.25)
    r = frame.radius
    bolts = bores(frame, 6, 31.0, 3.4)
    height = thickness * rounded(r - outer, 1.2)
    height += hub_height * rounded(r - hub, 1.4)
    height += 0.9 * inside(np.abs(r - 24.5) - 1.6, 1.0)
    height -= 1.4 * inside(bolts - 1.7, 1.2)
    height *= inside(bore - r, 1.0) * inside(-bolts, 0.8)
    marks = streaks(r, 0.45, rng)
    tint = np.array([0.40, 0.41, 0.42]) * (1 + rng.normal(0, 0.04)) + rng.normal(0, 0.008, 3)
    grain = 0.06 * marks + 0.04 * patches(frame.shape, 14 * frame.per_mm, rng)
    albedo = painted(tint, frame.shape, grain)
    part = inside(r - outer) * inside(bore - r) * inside(-bolts)
    ones = np.ones(frame.shape, dtype=np.float32)
    return Surface(
        (height + 0.006 * marks * part).astype(np.float32),
        albedo,
        0.85 * ones,
        (0.5 + 0.05 * marks).astype(np.float32),
        part.astype(np.float32),
        frame.outward,
    )


def gear(frame: Frame, rng: Rng) -> Surface:
    """Draw a moulded gear wheel: 24 teeth, recessed web with five openings, keyed hub."""
    teeth, root, tip = 24.0, 36.5 + rng.normal(0, 0.3), 42 + rng.normal(0, 0.3)
    r, angle = frame.radius, frame.angle
    wave = np.cos(teeth * angle) * np.float32(1.9)
    rim = r - (root + (tip - root) * rise(0.5 + wave / 2.0)).astype(np.float32)
    # Distance along the radius is too long at the flanks; scale it to about the true distance.
    rim = rim * np.float32(0.6)
    openings = bores(frame, 5, 21.0, 5.2 + rng.normal(0, 0.1))
    key = np.maximum(np.abs(frame.y) - 1.7, np.abs(frame.x - 6.5) - 2.2)
    bore = np.minimum(r - 6.2, key)
    face, web = 9 + rng.normal(0, 0.3), 4.6 + rng.normal(0, 0.25)
    height = face * rounded(rim, 1.0)
    recess = inside(r - 30.5, 1.6) * inside(12 - r, 1.6)
    height -= (face - web) * recess
    height += 2.0 * rounded(r - 11.5, 1.2)
    height *= inside(-openings, 0.8) * inside(-bore, 0.8)
    part = inside(rim) * inside(-openings) * inside(-bore)
    shade = 0.03 * patches(frame.shape, 12 * frame.per_mm, rng)
    shade += 0.012 * rng.standard_normal(frame.shape, dtype=np.float32)
    tint = np.array([0.52, 0.48, 0.37]) * (1 + rng.normal(0, 0.03)) + rng.normal(0, 0.008, 3)
    ones = np.ones(frame.shape, dtype=np.float32)
    return Surface(
        height.astype(np.float32),
        painted(tint, frame.shape, shade),
        0.02 * ones,
        0.3 * ones,
        part.astype(np.float32),
    )


def biscuit(frame: Frame, rng: Rng) -> Surface:
    """Draw a baked biscuit: scalloped edge, domed and bumpy, pricked holes, browned top."""
    r, angle = frame.radius, frame.angle
    outer = 40 + rng.normal(0, 0.6)
    lobes = np.float32(1.3) * np.abs(np.cos(10 * angle)) + np.float32(
        0.5 * np.cos(2 * angle + rng.uniform(0, 6))
    )
    edge = r - (outer + lobes).astype(np.float32)
    top = 7.5 + rng.normal(0, 0.4)
    coarse = patches(frame.shape, 7 * frame.per_mm, rng)
    fine = patches(frame.shape, 1.7 * frame.per_mm, rng)
    crumb = patches(frame.shape, 0.7 * frame.per_mm, rng)
    bumps = 0.30 * coarse + 0.11 * fine + 0.04 * crumb
    bumps += 0.9 * (1 - np.square(np.clip(r / outer, 0, 1))) - 0.5 * inside(
        np.abs(r - 34.0) - 0.6, 1
    )
    pricks = np.minimum(bores(frame, 6, 11.5, 1.3), bores(frame, 12, 24.5, 1.3))
    pricks = np.minimum(pricks, r - 1.3)
    height = (top + bumps) * rounded(edge, 3.2) - 2.6 * inside(pricks, 1.4) * (r < outer)
    brown = 0.55 * coarse + 0.25 * fine + 0.9 * rise((r - 30.0) / 11.0) + rng.normal(0, 0.15)
    albedo = painted([0.52, 0.31, 0.125], frame.shape, 0.05 * crumb + 0.05 * fine)
    albedo = blend(albedo, [0.27, 0.115, 0.035], rise(0.18 + 0.36 * brown))
    albedo = blend(albedo, [0.20, 0.09, 0.03], 0.6 * inside(pricks, 1.0))
    ones = np.ones(frame.shape, dtype=np.float32)
    return Surface(
        np.maximum(height, 0).astype(np.float32),
        albedo.astype(np.float32),
        0 * ones,
        0.05 * ones,
        inside(edge).astype(np.float32),
    )
