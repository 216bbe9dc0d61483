"""Defects of rendered parts: each changes a part's colour, its height field, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from chiasm.detection.scenes.surface import Rng, Surface, blend, box_distance, inside, patches, rise
from chiasm.samples import FloatArray

# No defect stands higher above the part's highest point.
PROUD_MM = 4.0
_RGB, _3D = "rgb", "3d"


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """Where a defect sits: axes in plan millimetres, turned at random, and a size.

    Attributes:
        x, y: ``(P, P)`` float32, millimetres from the defect's centre.
        radius: millimetres; that of a disc of the defect's drawn area.
        per_mm: grid points a millimetre.
    """

    x: FloatArray
    y: FloatArray
    radius: float
    per_mm: float


Maker = Callable[[Surface, Spot, Rng], Surface]


def stain(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """A dried drop of oil or dye: ragged outline, darker towards its rim."""
    distance = _blob(spot, rng, 0.28)
    wet = inside(distance, 0.9)
    ring = inside(np.abs(distance + 0.5) - 0.35, 0.9)
    hue = _pick(rng, [(0.07, 0.05, 0.04), (0.05, 0.08, 0.20), (0.30, 0.06, 0.05)])
    share = wet * np.float32(rng.uniform(0.50, 0.80)) + 0.22 * ring * wet
    return replace(surface, albedo=blend(surface.albedo, hue, np.clip(share, 0, 1)))


def discolouration(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """A cloud of heat tint or bleaching whose edge fades out."""
    distance = _blob(spot, rng, 0.20) / np.float32(spot.radius)
    share = rise(0.35 - 0.9 * distance)
    share *= 0.85 + 0.15 * patches(surface.height.shape, 2.5 * spot.per_mm, rng)
    tint = _pick(rng, [(1.30, 0.76, 0.40), (0.52, 0.68, 1.10), (0.50, 0.44, 0.41)])
    tinted = np.clip(surface.albedo * np.float32(tint), 0, 1)
    return replace(surface, albedo=blend(surface.albedo, tinted, np.clip(share, 0, 1)))


def dent(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """A smooth hollow pressed into the part."""
    depth = np.float32(rng.uniform(1.1, 2.6))
    return _raised(surface, -depth * _dome(spot, rng))


def warp(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """A broad swelling, as of material that cooled unevenly."""
    return _raised(surface, np.float32(rng.uniform(1.0, 2.2)) * _dome(spot, rng))


def scratch(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """A slightly curved groove with a raised burr, bare or dirty inside."""
    width = np.float32(rng.uniform(0.65, 1.2))
    half = np.float32(np.clip(spot.radius**2 * 1.6 / width, 5.0, 17.0))
    curve = spot.y + np.float32(rng.normal(0, 0.012)) * spot.x**2
    curve = curve + 0.25 * np.sin(spot.x / 3 + np.float32(rng.uniform(0, 6)))
    taper = np.clip(1.4 * (1 - (spot.x / half) ** 2), 0, 1)
    groove = np.exp(-((curve / (0.62 * width)) ** 2)) * taper
    burr = np.exp(-(((np.abs(curve) - 1.35 * width) / (0.5 * width)) ** 2)) * taper
    depth = np.float32(rng.uniform(0.5, 1.1))
    marked = _raised(surface, depth * (0.3 * burr - groove))
    light = float(surface.albedo.mean()) < 0.3
    bare = surface.albedo * 0.4 + (0.45 if light else 0.02)
    return replace(marked, albedo=blend(surface.albedo, bare, 0.75 * np.clip(groove, 0, 1)))


def hole(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """A pit or a blow-hole, deep and dark, with a soft rim."""
    radius = np.clip(spot.radius * 0.75, 1.6, 4.6)
    distance = _blob(replace(spot, radius=radius), rng, 0.15)
    depth = np.float32(rng.uniform(2.0, 4.5))
    pit = rise(0.5 - distance / 1.4)
    low = np.maximum(surface.height - depth * pit, np.minimum(surface.height, 0.8))
    dark = blend(surface.albedo, surface.albedo * 0.45, inside(distance + 0.4, 0.8))
    return replace(surface, height=low.astype(np.float32), albedo=dark)


def chip(surface: Surface, spot: Spot, rng: Rng) -> Surface:
    """Material broken off at an edge, down to the support or to a rough fracture."""
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
    """Something that does not belong there: a crumb, a chip of swarf or a fibre on the part."""
    if rng.random() < 0.4:
        half = np.clip(spot.radius * 2.2, 4.0, 11.0)
        curve = spot.y + np.float32(rng.normal(0, 0.05)) * spot.x**2
        curve = curve + 0.9 * np.sin(spot.x / 2.6 + np.float32(rng.uniform(0, 6)))
        distance = box_distance(spot.x, curve, (half, 0.62), 0.55)
        tall, hue = rng.uniform(0.9, 1.5), _pick(rng, [(0.05, 0.05, 0.06), (0.65, 0.62, 0.55)])
    else:
        radius = np.clip(spot.radius * 0.8, 1.6, 4.2)
        distance = _blob(replace(spot, radius=radius), rng, 0.25)
        tall, hue = rng.uniform(1.2, 2.6), _pick(rng, [(0.14, 0.10, 0.07), (0.40, 0.33, 0.20)])
    cover = inside(distance, 0.6)
    body = np.clip(-distance / np.float32(1.6), 0, 1)
    grain = 1 + 0.25 * patches(surface.height.shape, 0.9 * spot.per_mm, rng)
    base = _blur(surface.height, 0.8 * spot.per_mm)
    top = np.maximum(surface.height, base + np.float32(tall) * np.sqrt(body) * (0.6 + 0.4 * grain))
    colour = np.float32(hue) * grain[..., None]
    return replace(
        surface,
        height=blend(surface.height, top, cover).astype(np.float32),
        albedo=blend(surface.albedo, np.clip(colour, 0, 1), cover),
        metal=surface.metal * (1 - cover),
        gloss=blend(surface.gloss, 0.08, cover),
        part=np.maximum(surface.part, cover),
    )


# Area in shares of the part's, least and most, before the defect's own shape is drawn.
_MAKERS: dict[str, tuple[Maker, frozenset[str], tuple[float, float]]] = {
    "stain": (stain, frozenset({_RGB}), (0.006, 0.035)),
    "discolouration": (discolouration, frozenset({_RGB}), (0.018, 0.05)),
    "dent": (dent, frozenset({_3D}), (0.015, 0.05)),
    "warp": (warp, frozenset({_3D}), (0.020, 0.06)),
    "scratch": (scratch, frozenset({_RGB, _3D}), (0.004, 0.012)),
    "hole": (hole, frozenset({_RGB, _3D}), (0.006, 0.020)),
    "chip": (chip, frozenset({_RGB, _3D}), (0.010, 0.040)),
    "contamination": (contamination, frozenset({_RGB, _3D}), (0.006, 0.022)),
}
DEFECTS = tuple(_MAKERS)
DEFECT_VISIBILITY = {name: seen for name, (_, seen, _) in _MAKERS.items()}


def spoil(surface: Surface, defect: str, per_mm: float, rng: Rng, growth: float = 1.0) -> Surface:
    """Return a part's surface with one defect of a kind in ``DEFECTS`` at a random place.

    ``per_mm`` is grid points a millimetre; ``growth`` multiplies the drawn area.
    """
    make, _, (least, most) = _MAKERS[defect]
    area = float(surface.part.sum()) / per_mm**2
    share = np.exp(rng.uniform(np.log(least), np.log(most)))
    radius = float(np.sqrt(growth * share * area / np.pi))
    solid = (surface.part > 0.5).astype(np.uint8)
    # Distance to the nearest edge, in grid points: chips sit on it, all else keeps away.
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    if defect == "chip":
        outline = _outline(solid)
        places = np.flatnonzero(outline)
    else:
        clear = min(0.7 * radius * per_mm, 0.6 * float(depth.max()))
        places = np.flatnonzero((depth >= clear) & (surface.height > 1.5))
    row, column = divmod(int(places[rng.integers(len(places))]), solid.shape[1])
    line = np.arange(solid.shape[0], dtype=np.float32)
    dx = (line[None, :] - np.float32(column)) / np.float32(per_mm)
    dy = (line[:, None] - np.float32(row)) / np.float32(per_mm)
    turn = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    spot = Spot(cosine * dx + sine * dy, cosine * dy - sine * dx, radius, per_mm)
    spoilt = make(surface, spot, rng)
    ceiling = surface.height.max() + np.float32(PROUD_MM - 0.5)
    spoilt = replace(spoilt, height=np.minimum(spoilt.height, ceiling))
    if defect in ("chip", "contamination"):
        return spoilt
    # A defect of the part's surface ends where the part does.
    return replace(
        spoilt,
        height=blend(surface.height, spoilt.height, surface.part).astype(np.float32),
        albedo=blend(surface.albedo, spoilt.albedo, surface.part),
    )


def _outline(solid: np.ndarray) -> np.ndarray:
    """Grid points on the outer contour of a part, not those around its openings."""
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(solid), contours, -1, 1, 1))


def _blob(spot: Spot, rng: Rng, ragged: float) -> FloatArray:
    """Distance in millimetres to a rounded, irregular outline; negative inside."""
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
    """A bump of height 1 that meets its surroundings without a kink."""
    distance = _blob(spot, rng, 0.12) / np.float32(spot.radius)
    return rise(-distance * np.float32(1.15))


def _raised(surface: Surface, by: FloatArray) -> Surface:
    # Never below the support, nor where the part is open.
    height = np.where(surface.height > 0.6, np.maximum(surface.height + by, 0.5), surface.height)
    return replace(surface, height=height.astype(np.float32))


def _pick(rng: Rng, choices: list[tuple[float, float, float]]) -> FloatArray:
    chosen = np.array(choices[rng.integers(len(choices))])
    return np.clip(chosen * (1 + rng.normal(0, 0.08, 3)), 0, 2).astype(np.float32)


def _blur(field: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma))
