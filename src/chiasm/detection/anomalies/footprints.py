"""Footprints of synthetic defects: smooth blobs and tapered strokes at random positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chiasm.samples import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """The area of a defect, in a window of the image.

    Attributes:
        rows, cols: the window, inside the image.
        rho: ``(h, w)`` float32, 0 in the middle (or on the centre line), 1 on the outline, above
            1 outside.
        radius: pixels from the middle to the outline, on average.
        centre: row and column of the middle in the image.
    """

    rows: slice
    cols: slice
    rho: FloatArray
    radius: float
    centre: tuple[float, float]

    def dome(self) -> FloatArray:
        """Return a rounded cap, ``(h, w)`` in [0, 1], with a sharp foot."""
        return np.sqrt(np.clip(1.0 - self.rho**2, 0.0, None))

    def bell(self) -> FloatArray:
        """Return a smooth hill, ``(h, w)`` in [0, 1], with a soft foot."""
        return np.clip(1.0 - self.rho**2, 0.0, None) ** 2

    def plateau(self, edge: float) -> FloatArray:
        """Return a flat top, ``(h, w)`` in [0, 1], that falls off over the outer share ``edge``."""
        ramp = np.clip((1.0 - self.rho) / max(edge, 1e-3), 0.0, 1.0)
        return ramp * ramp * (3.0 - 2.0 * ramp)


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_pixel(region: BoolArray, rng: np.random.Generator) -> tuple[int, int]:
    """Draw one True pixel (row, column) of ``region``, which must have one."""
    pixels = np.flatnonzero(region)
    row, col = divmod(int(pixels[rng.integers(pixels.size)]), region.shape[1])
    return row, col


def window_around(
    centre: tuple[float, float], reach: tuple[float, float], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Return the rows and columns of the image within ``reach`` pixels of ``centre``."""
    low = [max(int(np.floor(c - r)), 0) for c, r in zip(centre, reach)]
    high = [min(int(np.ceil(c + r)) + 1, n) for c, r, n in zip(centre, reach, shape)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _offsets(
    rows: slice, cols: slice, centre: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] - np.float32(centre[1])
    return y, x


def blob(
    region: BoolArray,
    area: float,
    rng: np.random.Generator,
    *,
    roughness: float = 0.25,
    max_aspect: float = 2.2,
    margin: float = 1.0,
) -> Footprint:
    """Draw a blob with a wavy outline; its middle is a random pixel of ``region``.

    ``region`` is ``(H, W)`` with at least one True pixel; ``area`` is in pixels; ``roughness`` is
    the deviation of the outline from an ellipse; ``margin`` scales the window.
    """
    centre = random_pixel(region, rng)
    radius = max(float(np.sqrt(area / np.pi)), 1.2)
    aspect = np.sqrt(rng.uniform(1.0, max_aspect))
    angle = rng.uniform(0.0, np.pi)
    reach = radius * aspect * (1.0 + 1.6 * roughness) * margin + 3.0
    rows, cols = window_around(centre, (reach, reach), region.shape)
    y, x = _offsets(rows, cols, centre)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = (
        (cos * x + sin * y) / np.float32(aspect),
        (cos * y - sin * x) * np.float32(aspect),
    )
    theta = np.arctan2(across, along)
    outline = np.ones_like(theta)
    for wave in range(2, 6):
        amplitude = np.float32(rng.normal(0.0, roughness / (wave - 0.5)))
        outline += amplitude * np.cos(wave * theta + np.float32(rng.uniform(0.0, 2 * np.pi)))
    outline = np.clip(outline, 0.4, 1.7)
    rho = np.hypot(along, across) / (np.float32(radius) * outline)
    return Footprint(rows, cols, rho.astype(np.float32), radius, centre)


def stroke(
    region: BoolArray,
    length: float,
    width: float,
    rng: np.random.Generator,
    *,
    curl: float = 0.5,
    taper: float = 0.7,
) -> Footprint:
    """Draw a curved stroke that thins towards its ends; its middle is a pixel of ``region``.

    ``length`` and ``width`` are pixels; ``curl`` is the standard deviation of the rotation
    in radians from one end to the other; ``taper`` is the share of the width lost at the ends.
    ``radius`` of the result is half the width.
    """
    centre = random_pixel(region, rng)
    steps = max(int(length / 2.0), 6)
    t = np.linspace(-1.0, 1.0, steps, dtype=np.float32)
    heading = rng.uniform(0.0, 2 * np.pi) + rng.normal(0.0, curl) * t + rng.normal(0, curl) * t * t
    pace = length / steps
    path_y, path_x = np.cumsum(np.sin(heading)) * pace, np.cumsum(np.cos(heading)) * pace
    path_y = (path_y - path_y[steps // 2] + centre[0]).astype(np.float32)
    path_x = (path_x - path_x[steps // 2] + centre[1]).astype(np.float32)
    middle = ((path_y.min() + path_y.max()) / 2, (path_x.min() + path_x.max()) / 2)
    reach = (np.ptp(path_y) / 2 + width + 3.0, np.ptp(path_x) / 2 + width + 3.0)
    rows, cols = window_around(middle, reach, region.shape)
    y, x = _offsets(rows, cols, (0.0, 0.0))  # (h, 1), (1, w): image coordinates
    start_y, start_x = path_y[:-1], path_x[:-1]
    step_y, step_x = np.diff(path_y), np.diff(path_x)
    dy, dx = y[..., None] - start_y, x[..., None] - start_x  # (h, 1, P), (1, w, P)
    share = np.clip((dy * step_y + dx * step_x) / (step_y**2 + step_x**2 + 1e-9), 0.0, 1.0)
    squared = (dy - share * step_y) ** 2 + (dx - share * step_x) ** 2
    nearest = np.argmin(squared, axis=-1)
    distance = np.sqrt(np.take_along_axis(squared, nearest[..., None], -1)[..., 0])
    thickness = 1.0 - taper * np.abs(t[nearest]) ** 3
    rho = distance / (np.float32(width / 2.0) * thickness)
    return Footprint(rows, cols, rho.astype(np.float32), width / 2.0, centre)
