"""Moulded and stamped products: connector housing, bottle cap and sheet-metal bracket."""

from __future__ import annotations

import numpy as np

from chiasm.detection.scenes.surface import (
    Frame,
    Rng,
    Surface,
    blend,
    box_distance,
    inside,
    painted,
    patches,
    rounded,
)
from chiasm.samples import FloatArray


def connector(frame: Frame, rng: Rng) -> Surface:
    """Draw a plastic connector: two rows of eight cavities, gilt pins, latch, ribs, ears."""
    x, y = frame.x, frame.y
    half = (34 + rng.normal(0, 0.3), 17 + rng.normal(0, 0.2))
    top = 11 + rng.normal(0, 0.25)
    body = box_distance(x, y, half, 2.0)
    ears = box_distance(x, y + 4.0, (46.0, 7.0), 3.0)
    screws = np.hypot(np.abs(x) - 40.5, y + 4.0) - np.float32(2.6)
    height = 4.5 * rounded(ears, 0.8) * inside(-screws, 0.7)
    height = np.maximum(height, top * rounded(body, 1.0))
    latch = box_distance(x, y - half[1] - 1.0, (8.0, 5.5), 1.0)
    height = np.maximum(height, 8.0 * rounded(latch, 0.8))
    ribs = np.maximum(np.abs(x - 12 * np.round(x / 12)) - 0.9, np.abs(np.abs(y) - 14.6) - 1.9)
    height += 0.9 * inside(ribs, 0.7) * inside(body + 1.0)
    pitch = np.float32(7.4)
    column = np.clip(np.round(x / pitch - 0.5), -4, 3) + np.float32(0.5)
    row = np.where(y > 0, np.float32(5.3), np.float32(-5.3))
    cavity = box_distance(x - column * pitch, y - row, (2.6, 3.4), 0.6)
    pin = box_distance(x - column * pitch, y - row, (0.95, 0.95), 0.3)
    height -= 5.5 * inside(cavity, 0.8)
    height += 3.6 * inside(pin, 0.7)
    part = np.maximum(np.maximum(inside(ears) * inside(-screws), inside(body)), inside(latch))
    hue = np.array([0.055, 0.06, 0.068]) * (1 + rng.normal(0, 0.06)) + rng.normal(0, 0.003, 3)
    fine = 0.05 * rng.standard_normal(frame.shape, dtype=np.float32)
    albedo = painted(hue, frame.shape, fine + 0.06 * patches(frame.shape, 10 * frame.per_mm, rng))
    gilt = inside(pin, 0.6)
    albedo = blend(albedo, [0.80, 0.56, 0.20], gilt)
    return _surface(height, albedo, 0.9 * gilt, 0.16 + 0.4 * gilt, part)


def cap(frame: Frame, rng: Rng) -> Surface:
    """Draw a moulded cap: knurled skirt, shallow dome, embossed ring and three-leaf emblem."""
    r, angle = frame.radius, frame.angle
    outer = 37 + rng.normal(0, 0.35)
    knurl = np.float32(0.55) * np.cos(60 * angle) * inside(34.5 - r, 1.5)
    edge = r - (outer + knurl).astype(np.float32)
    top = 13 + rng.normal(0, 0.35)
    height = top * rounded(edge, 4.2)
    height += 1.9 * np.maximum(1 - np.square(r / 27), 0)
    height += 0.8 * inside(np.abs(r - 28.6) - 0.9, 0.9)
    leaf = np.abs(r - 13.5) - 5.6 * np.abs(np.cos(1.5 * angle)) ** 0.7
    height += 0.75 * inside(leaf, 1.0) * inside(np.abs(r - 13.5) - 6.0)
    height -= 0.45 * inside(r - 1.4, 1.2)
    hue = np.array([0.42, 0.030, 0.028]) * (1 + rng.normal(0, 0.05)) + rng.normal(0, 0.004, 3)
    fine = 0.02 * rng.standard_normal(frame.shape, dtype=np.float32)
    # Pigment drawn out by the flow from the gate in the middle.
    flow = 0.05 * patches(frame.shape, 9 * frame.per_mm, rng)
    flow += 0.02 * np.cos(7 * angle + np.float32(rng.uniform(0, 6)))
    albedo = painted(np.maximum(hue, 0.01), frame.shape, (fine + flow).astype(np.float32))
    ones = np.ones(frame.shape, dtype=np.float32)
    return _surface(height, albedo, 0 * ones, 0.42 * ones, inside(edge))


def bracket(frame: Frame, rng: Rng) -> Surface:
    """Draw a coated bracket: stepped plate with slots, holes, a bead and an upturned flange."""
    x, y = frame.x, frame.y
    half = (41 + rng.normal(0, 0.3), 24 + rng.normal(0, 0.25))
    plate = np.maximum(box_distance(x, y, half, 5.0), (np.abs(x) + np.abs(y) - 56.5) * 0.707)
    bend = 6 + rng.normal(0, 0.25)
    level = 3.2 + bend * inside(x - 6, 6.0)
    slots = box_distance(np.abs(x - 24), np.abs(y) - 11, (8.0, 2.3), 2.25)
    left = box_distance(x + 23, np.abs(y) - 13, (3.6, 3.6), 3.55)
    middle = np.hypot(x + 22, y) - np.float32(6.0)
    openings = np.minimum(np.minimum(slots, left), middle)
    height = level * rounded(plate, 0.9)
    bead = box_distance(x + 9, y, (24.0, 2.0), 1.95)
    height += 1.5 * rounded(np.maximum(bead, 8.5 - np.hypot(x + 22, y)), 1.9)
    wall = box_distance(x - half[0] + 2.0, y, (1.9, 19.0), 1.0)
    height = np.maximum(height, (13 + rng.normal(0, 0.25)) * rounded(wall, 1.0))
    height += 0.7 * inside(np.abs(middle - 1.8) - 0.8, 0.8)
    height *= inside(-openings, 0.7)
    part = inside(plate) * inside(-openings)
    hue = np.array([0.60, 0.27, 0.025]) * (1 + rng.normal(0, 0.04)) + rng.normal(0, 0.006, 3)
    # The orange peel of powder coating shows more in relief than in colour.
    peel = patches(frame.shape, 1.3 * frame.per_mm, rng)
    cloud = patches(frame.shape, 11 * frame.per_mm, rng)
    albedo = painted(np.maximum(hue, 0.01), frame.shape, 0.025 * peel + 0.03 * cloud)
    ones = np.ones(frame.shape, dtype=np.float32)
    return _surface(height + 0.015 * peel * part, albedo, 0 * ones, 0.36 * ones, part)


def _surface(
    height: FloatArray, albedo: FloatArray, metal: FloatArray, gloss: FloatArray, part: FloatArray
) -> Surface:
    fields = (np.asarray(field, dtype=np.float32) for field in (metal, gloss, part))
    return Surface(np.maximum(height, 0).astype(np.float32), albedo.astype(np.float32), *fields)
