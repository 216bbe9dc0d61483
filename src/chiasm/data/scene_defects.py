"""Defects of the built-in parts: changes of height, of colour, or of both."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from chiasm.samples import BoolArray, FloatArray

DEFECT_VISIBILITY: Mapping[str, frozenset[str]] = {
    "stain": frozenset({"rgb"}),
    "discolouration": frozenset({"rgb"}),
    "dent": frozenset({"3d"}),
    "swelling": frozenset({"3d"}),
    "cut": frozenset({"rgb", "3d"}),
    "hole": frozenset({"rgb", "3d"}),
    "contamination": frozenset({"rgb", "3d"}),
}
DEFECTS = tuple(DEFECT_VISIBILITY)


def apply_defect(
    defect: str,
    height: FloatArray,
    colour: FloatArray,
    part: BoolArray,
    pitch: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return height, colour and pixel-exact mask of a part with one defect.

    Args:
        defect: one of ``DEFECTS``.
        height: ``(H, W)`` metres above the plane.
        colour: ``(H, W, 3)`` reflectance.
        part: ``(H, W)`` where the part is.
        pitch: metres per pixel.
        rng: place, size and strength.
    """
    core = cv2.erode(part.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    rows, columns = np.nonzero(core if core.any() else part)
    pick = rng.integers(len(rows))
    blob = _footprint(defect, rows[pick], columns[pick], height.shape, pitch, rng) * part
    sign = 1.0
    if defect in ("dent", "hole", "cut"):
        sign = -1.0
    depth = {
        "dent": rng.uniform(0.0012, 0.0025),
        "swelling": rng.uniform(0.0012, 0.0025),
        "cut": rng.uniform(0.0015, 0.003),
        "hole": rng.uniform(0.003, 0.007),
        "contamination": rng.uniform(0.0015, 0.004),
    }.get(defect, 0.0)
    new_height = np.maximum(height + sign * depth * blob, 0.0005 * part)
    new_colour = colour
    if defect in ("stain", "discolouration", "contamination"):
        # Brightness is kept: otherwise the mean brightness would tell good from bad.
        tint = rng.uniform(0.2, 1.0, 3)
        tint *= colour[part].mean() * rng.uniform(0.75, 1.25) / tint.mean()
        strength = rng.uniform(0.35, 0.7) if defect != "contamination" else 0.9
        weight = (strength * blob)[..., None]
        new_colour = colour * (1 - weight) + weight * tint
    mask = (np.abs(new_height - height) > 0.0003) | (np.abs(new_colour - colour).max(axis=2) > 0.03)
    return new_height, np.clip(new_colour, 0, 1), mask & part


def _footprint(
    defect: str,
    row: int,
    column: int,
    shape: tuple[int, ...],
    pitch: float,
    rng: np.random.Generator,
) -> FloatArray:
    """A weight in [0, 1] around a place: an irregular blob, or a thin line for cuts."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    along = ((x - column) * np.cos(turn) + (y - row) * np.sin(turn)) * pitch
    across = (-(x - column) * np.sin(turn) + (y - row) * np.cos(turn)) * pitch
    if defect == "cut":
        long, thin = rng.uniform(0.006, 0.014), rng.uniform(0.0008, 0.0014)
        bent = across - rng.uniform(-12, 12) * along**2
        return np.clip(1.5 - np.maximum(np.abs(along) / long, np.abs(bent) / thin), 0, 1)
    size = {"hole": (0.0022, 0.0045), "contamination": (0.002, 0.0045)}.get(defect, (0.004, 0.009))
    a, b = rng.uniform(*size, 2)
    angle = np.arctan2(across, along)
    wobble = 1 + sum(
        rng.uniform(-0.12, 0.12) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 5)
    )
    reach = np.hypot(along / a, across / b) / wobble
    if defect in ("dent", "swelling"):
        return np.clip(1 - reach**2, 0, 1) ** 1.5
    return np.clip((1.15 - reach) / 0.3, 0, 1)
