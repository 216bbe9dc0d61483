"""The picture of a recording: its phase-resolved pattern of partial discharges (PRPD)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]
IntArray = NDArray[np.int64]

SIZE = 256
FULL_SCALE = 255
LEVELS = 128
# Each has ``(256, 3)`` RGB: the colour of the rarest dot first.
_MAPS = {
    "jet": cv2.COLORMAP_JET,
    "turbo": cv2.COLORMAP_TURBO,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "plasma": cv2.COLORMAP_PLASMA,
    "bone": cv2.COLORMAP_BONE,
}
PALETTES = tuple(_MAPS)
# The ends of a map are not used: their dots would be invisible on a dark or light ground.
_LIGHT_END, _DARK_END = 28, 232


@dataclass(frozen=True, slots=True)
class Look:
    """The style of an instrument's pictures.

    Attributes:
        palette: one of ``PALETTES``.
        dark: dots on black instead of white.
        top: amplitude at the upper edge, recorder counts; larger ones are drawn at the edge.
        sine: whether the voltage is drawn behind the dots.
        grid: whether lines of phase and amplitude are drawn behind the dots.
    """

    palette: str = "jet"
    dark: bool = False
    top: int = FULL_SCALE
    sine: bool = True
    grid: bool = True


def prpd_histogram(counts: ByteArray, top: int = FULL_SCALE) -> IntArray:
    """Count the cycles with each amplitude in each phase bin.

    ``counts`` is ``(cycles, 128)`` uint8. Returns ``(128, 128)`` int64, oriented as the
    picture: row 127 is amplitude 0, row 0 is ``top`` and beyond; columns are phase, 0-360
    degrees. Each column sums to the number of cycles.
    """
    bins = counts.shape[1]
    scaled = np.minimum(np.arange(FULL_SCALE + 1) * LEVELS // (top + 1), LEVELS - 1)
    rows = (LEVELS - 1 - scaled).astype(np.int64)[counts]
    histogram = np.bincount((rows * bins + np.arange(bins)).reshape(-1), minlength=LEVELS * bins)
    return histogram.reshape(LEVELS, bins)


def draw_prpd(counts: ByteArray, look: Look | None = None) -> ByteArray:
    """Draw the logarithm of ``prpd_histogram`` in colour, two by two pixels a bin.

    ``counts`` is ``(cycles, 128)`` uint8. Returns ``(256, 256, 3)`` uint8 RGB; empty bins show the
    ground with its grid and sine.
    """
    look = look or Look()
    histogram = prpd_histogram(counts, look.top)
    depth = np.log1p(histogram) / np.log1p(len(counts))
    shade = _LIGHT_END + np.rint(depth * (_DARK_END - _LIGHT_END)).astype(np.int64)
    pixels = SIZE // LEVELS
    painted = _colours(look.palette, look.dark)[shade].repeat(pixels, 0).repeat(pixels, 1)
    occupied = (histogram > 0).repeat(pixels, 0).repeat(pixels, 1)
    picture = _ground(look.dark, look.sine, look.grid).copy()
    picture[occupied] = painted[occupied]
    return picture


@lru_cache
def _colours(palette: str, dark: bool) -> ByteArray:
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    if not dark and palette == "bone":
        ramp = ramp[::-1].copy()
    return np.array(cv2.applyColorMap(ramp, _MAPS[palette])[:, 0, ::-1], dtype=np.uint8)


@lru_cache
def _ground(dark: bool, sine: bool, grid: bool) -> ByteArray:
    canvas = np.full((SIZE, SIZE, 3), 0 if dark else 255, dtype=np.uint8)
    middle, quarter = SIZE // 2, SIZE // 4
    if grid:
        faint = (48, 48, 48) if dark else (222, 222, 222)
        for at in range(0, SIZE, quarter):
            cv2.line(canvas, (at, 0), (at, SIZE - 1), faint, 1)
            cv2.line(canvas, (0, SIZE - 1 - at), (SIZE - 1, SIZE - 1 - at), faint, 1)
    if sine:
        across = np.arange(SIZE)
        height = middle - 0.42 * SIZE * np.sin(2 * np.pi * (across + 0.5) / SIZE)
        points = np.stack([across, np.rint(height)], axis=1).astype(np.int32)
        ink = (110, 110, 110) if dark else (165, 165, 165)
        cv2.polylines(canvas, [points[:, None]], False, ink, 1, cv2.LINE_AA)
    return canvas
