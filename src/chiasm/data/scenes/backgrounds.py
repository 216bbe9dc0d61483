"""Supports that rendered parts lie on: boards, belts, mats and sheets, each with its own colour."""

from __future__ import annotations

import numpy as np

from chiasm.data.scenes.surface import Rng, Surface, painted, patches

_COLOURS = (
    (0.16, 0.16, 0.165),
    (0.055, 0.10, 0.17),
    (0.05, 0.125, 0.085),
    (0.30, 0.29, 0.27),
    (0.085, 0.08, 0.078),
)


def support(shape: tuple[int, int], per_mm: float, rng: Rng) -> Surface:
    """Draw the flat support of a scene: colour, weave or grain, and stains of long use."""
    colour = np.array(_COLOURS[rng.integers(len(_COLOURS))]) * (1 + rng.normal(0, 0.06, 3))
    colour = colour * (1 + rng.normal(0, 0.10))
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(2.2, 3.6)
    line = np.arange(shape[0], dtype=np.float32) / np.float32(per_mm)
    along = np.cos(turn) * line[None, :] + np.sin(turn) * line[:, None]
    across = np.cos(turn) * line[:, None] - np.sin(turn) * line[None, :]
    wave = np.float32(2 * np.pi / pitch)
    weave = np.sin(wave * along) * np.sin(wave * across) * np.float32(rng.uniform(0, 0.07))
    worn = rng.uniform(0.02, 0.06) * patches(shape, 16 * per_mm, rng)
    grain = rng.uniform(0.02, 0.05) * patches(shape, 0.9 * per_mm, rng)
    albedo = painted(colour, shape, (weave + worn + grain).astype(np.float32))
    flat = np.zeros(shape, dtype=np.float32)
    return Surface(flat, albedo.astype(np.float32), flat, flat + np.float32(0.04), flat)
