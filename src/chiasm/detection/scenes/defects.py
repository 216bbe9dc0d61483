"""Defects of rendered parts; each changes the part's colour, its height field, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from chiasm.detection.scenes.surface import Rng, Surface, blend, box_distance, inside, patches, rise
from chiasm.samples import FloatArray

# Limit of a defect's height above the highest point of the good part.
MAX_RISE_MM = 4.0
_RGB, _3D = "rgb", "3d"


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """Position of a defect: randomly rotated axes in plan millimetres, and a size.

    Attributes:
        x, y: ``(P, P)`` float32, millimetres from the defect's centre.
        radius: millimetres, of the disc that has the defect's drawn area.
        per_mm: grid points per millimetre.
    """

    x: FloatArray
    y: FloatArray
    radius: float
    per_mm: float


DrawDefect = Callable[[Surface, Spot, Rng], Surface]


def stain(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Draw a dried drop of oil or dye: ragged outline, darker towards its rim."""
    distance = _blob(spot, rng, 0.28)
    wet = inside(distance, 0.9)
    ring = inside(np.abs(distance + 0.5) - 0.35, 0.9)
    hue = _pick(rng, [(0.07, 0.05, 0.04), (0.05, 0.08, 0.20), (0.30, 0.06, 0.05)])
    share = wet * np.float32(rng.uniform(0.50, 0.80)) + 0.22 * ring * wet
    return replace(surface, albedo=blend(surface.albedo, hue, np.clip(share, 0, 1)))


def discolouration(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Draw a cloud of heat tint or bleaching with a soft edge."""
    distance = _blob(spot, rng, 0.20) / np.float32(spot.radius)
    share = rise(0.35 - 0.9 * distance)
    share *= 0.85 + 0.15 * patches(surface.height.shape, 2.5 * spot.per_mm, rng)
    tint = _pick(rng, [(1.30, 0.76, 0.40), (0.52, 0.68, 1.10), (0.50, 0.44, 0.41)])
    tinted = np.clip(surface.albedo * np.float32(tint), 0, 1)
    return replace(surface, albedo=blend(surface.albedo, tinted, np.clip(share, 0, 1)))


def dent(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Press a smooth hollow into the part."""
    depth = np.float32(rng.uniform(1.1, 2.6))
    return _raised(surface, -depth * _dome(spot, rng))


def warp(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Raise a broad swelling, as uneven cooling causes it."""
    return _raised(surface, np.float32(rng.uniform(1.0, 2.2)) * _dome(spot, rng))


def scratch(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Cut a slightly curved groove with a raised burr, bare or dirty inside."""
    width = np.float32(rng.uniform(0.65, 1.2))
    half = np.float32(np.clip(spot.radius**2 * 1.6 / width, 5.0, 17.0))
    curve = spot.y + np.float32(rng.normal(0, 0.012)) * spot.x**2
    curve = curve + 0.25 * np.sin(spot.x / 3 + np.float32(rng.uniform(0, 6)))
    taper = np.clip(1.4 * (1 - (spot.x / half) ** 2), 0, 1)
    groove = np.exp(-((curve / (0.62 * width)) ** 2)) * taper
    burr = np.exp(-(((np.abs(curve) - 1.35 * width) / (0.5 * width)) ** 2)) * taper
    depth = np.float32(rng.uniform(0.5, 1.1))
    cut = _raised(surface, depth * (0.3 * burr - groove))
    dark = float(surface.albedo.mean()) < 0.3
    bare = surface.albedo * 0.4 + (0.45 if dark else 0.02)
    return replace(cut, albedo=blend(surface.albedo, bare, 0.75 * np.clip(groove, 0, 1)))


def hole(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Sink a pit or a blow-hole, deep and dark, with a soft rim."""
    radius = np.clip(spot.radius * 0.75, 1.6, 4.6)
    distance = _blob(replace(spot, radius=radius), rng, 0.15)
    depth = np.float32(rng.uniform(2.0, 4.5))
    pit = rise(0.5 - distance / 1.4)
    low = np.maximum(surface.height - depth * pit, np.minimum(surface.height, 0.8))
    dark = blend(surface.albedo, surface.albedo * 0.45, inside(distance + 0.4, 0.8))
    return replace(surface, height=low.astype(np.float32), albedo=dark)


def chip(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Break material off at an edge, down to the support or to a rough fracture."""
    distance = _blob(replace(spot, radius=spot.radius * 1.25), rng, 0.22)
    rough = patches(surface.height.shape, 1.1 * spot.per_mm, rng)
    bite = inside(distance + 0.35 * rough, 0.7)
    floor = np.float32(rng.uniform(0.0, 0.45)) * surface.height
    slope = np.clip(-distance / np.float32(spot.radius), 0, 1)
    fracture = np.maximum(floor, surface.height * (1 - 1.4 * slope)) + 0.12 * rough * surface.part
    height = blend(surface.height, np.clip(fracture, 0, surface.height), bite)
    gone = inside(distance + 0.6, 0.7) * (height < 0.5)
    fresh = blend(surface.albedo, np.clip(surface.albedo * 1.18 + 0.03, 0, 1), bite)
    matt = surface.gloss * (1 - 0.8 * bite)
    return replace(
        surface,
        height=height.astype(np.float32),
        albedo=fresh,
        gloss=matt.astype(np.float32),
        part=surface.part * (1 - gone),
    )


def contamination(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Lay foreign matter on the part: a crumb, a chip of swarf or a fibre."""
    if rng.random() < 0.4:
        half = np.clip(spot.radius * 2.2, 4.0, 11.0)
        curve = spot.y + np.float32(rng.normal(0, 0.05)) * spot.x**2
        curve = curve + 0.9 * np.sin(spot.x / 2.6 + np.float32(rng.uniform(0, 6)))
        distance = box_distance(spot.x, curve, (half, 0.62), 0.55)
        thickness, hue = rng.uniform(0.9, 1.5), _pick(rng, [(0.05, 0.05, 0.06), (0.65, 0.62, 0.55)])
    else:
        radius = np.clip(spot.radius * 0.8, 1.6, 4.2)
        distance = _blob(replace(spot, radius=radius), rng, 0.25)
        thickness, hue = rng.uniform(1.2, 2.6), _pick(rng, [(0.14, 0.10, 0.07), (0.40, 0.33, 0.20)])
    cover = inside(distance, 0.6)
    body = np.clip(-distance / np.float32(1.6), 0, 1)
    grain = 1 + 0.25 * patches(surface.height.shape, 0.9 * spot.per_mm, rng)
    base = _blur(surface.height, 0.8 * spot.per_mm)
    top = np.maximum(
        surface.height, base + np.float32(thickness) * np.sqrt(body) * (0.6 + 0.4 * grain)
    )
    colour = np.float32(hue) * grain[..., None]
    return replace(
        surface,
        height=blend(surface.height, top, cover).astype(np.float32),
        albedo=blend(surface.albedo, np.clip(colour, 0, 1), cover),
        metal=surface.metal * (1 - cover),
        gloss=blend(surface.gloss, 0.08, cover),
        part=np.maximum(surface.part, cover),
    )


# Function, sensors that see the defect, and range of its area as a share of the part's.
_DEFECTS: dict[str, tuple[DrawDefect, frozenset[str], tuple[float, float]]] = {
    "stain": (stain, frozenset({_RGB}), (0.006, 0.035)),
    "discolouration": (discolouration, frozenset({_RGB}), (0.018, 0.05)),
    "dent": (dent, frozenset({_3D}), (0.015, 0.05)),
    "warp": (warp, frozenset({_3D}), (0.020, 0.06)),
    "scratch": (scratch, frozenset({_RGB, _3D}), (0.004, 0.012)),
    "hole": (hole, frozenset({_RGB, _3D}), (0.006, 0.020)),
    "chip": (chip, frozenset({_RGB, _3D}), (0.010, 0.040)),
    "contamination": (contamination, frozenset({_RGB, _3D}), (0.006, 0.022)),
}
DEFECTS = tuple(_DEFECTS)
DEFECT_VISIBILITY = {name: sensors for name, (_, sensors, _) in _DEFECTS.items()}


def add_defect(
    surface: Surface, defect: str, per_mm: float, rng: Rng, growth: float = 1.0
) -> Surface:
    """Return a part's surface with one defect, a name in ``DEFECTS``, at a random position.

    ``per_mm`` is grid points per millimetre; ``growth`` multiplies the drawn area.
    """
    draw, _, (smallest, largest) = _DEFECTS[defect]
    area = float(surface.part.sum()) / per_mm**2
    share = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    radius = float(np.sqrt(growth * share * area / np.pi))
    solid = (surface.part > 0.5).astype(np.uint8)
    # In grid points. Chips lie on the edge, all other defects keep a distance from it.
    edge_distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    if defect == "chip":
        outline = _outline(solid)
        positions = np.flatnonzero(outline)
    else:
        clear = min(0.7 * radius * per_mm, 0.6 * float(edge_distance.max()))
        positions = np.flatnonzero((edge_distance >= clear) & (surface.height > 1.5))
    row, column = divmod(int(positions[rng.integers(len(positions))]), solid.shape[1])
    line = np.arange(solid.shape[0], dtype=np.float32)
    dx = (line[None, :] - np.float32(column)) / np.float32(per_mm)
    dy = (line[:, None] - np.float32(row)) / np.float32(per_mm)
    rotation = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(rotation)), np.float32(np.sin(rotation))
    spot = Spot(cosine * dx + sine * dy, cosine * dy - sine * dx, radius, per_mm)
    result = draw(surface, spot, rng)
    ceiling = surface.height.max() + np.float32(MAX_RISE_MM - 0.5)
    result = replace(result, height=np.minimum(result.height, ceiling))
    if defect in ("chip", "contamination"):
        return result
    # A defect of the surface ends at the part's outline.
    return replace(
        result,
        height=blend(surface.height, result.height, surface.part).astype(np.float32),
        albedo=blend(surface.albedo, result.albedo, surface.part),
    )


def _outline(solid: np.ndarray) -> np.ndarray:
    """Mark the grid points on the outer contour of a part, without its openings."""
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(solid), contours, -1, 1, 1))


def _blob(spot: Spot, rng: Rng, ragged: float) -> FloatArray:
    """Return the signed distance in millimetres to an irregular outline, negative inside."""
    stretch = np.float32(np.exp(rng.normal(0, 0.18)))
    x, y = spot.x * stretch, spot.y / stretch
    angle = np.arctan2(y, x)
    wave = np.zeros_like(angle)
    for order in (2, 3, 5, 8):
        wave += np.float32(rng.normal(0, ragged / order)) * np.cos(
            order * angle + np.float32(rng.uniform(0, 2 * np.pi))
        )
    return np.hypot(x, y) - np.float32(spot.radius) * (1 + np.clip(wave, -0.5, 0.5))


def _dome(spot: Spot, rng: Rng) -> FloatArray:
    """Return a bump of height 1 with a smooth foot."""
    distance = _blob(spot, rng, 0.12) / np.float32(spot.radius)
    return rise(-distance * np.float32(1.15))


def _raised(surface: Surface, rise_mm: FloatArray) -> Surface:
    # Never below the support, and never in an opening of the part.
    height = np.where(
        surface.height > 0.6, np.maximum(surface.height + rise_mm, 0.5), surface.height
    )
    return replace(surface, height=height.astype(np.float32))


def _pick(rng: Rng, choices: list[tuple[float, float, float]]) -> FloatArray:
    colour = np.array(choices[rng.integers(len(choices))])
    return np.clip(colour * (1 + rng.normal(0, 0.08, 3)), 0, 2).astype(np.float32)


def _blur(field: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma))
