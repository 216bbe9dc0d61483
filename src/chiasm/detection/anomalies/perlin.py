"""Perlin noise, and the masks of the paper's anomaly generator."""

from __future__ import annotations

import cv2
import numpy as np

from chiasm.errors import ConfigurationError
from chiasm.samples import BoolArray, FloatArray


def _fade(t: FloatArray) -> FloatArray:
    return np.asarray(t * t * t * (t * (6.0 * t - 15.0) + 10.0), dtype=np.float32)


def _corner_weights(length: int, cells: int) -> tuple[FloatArray, FloatArray]:
    """Return the weights of the lattice points along one axis, ``(length, cells + 1)`` each.

    The first array interpolates between the two neighbouring lattice points. The second is the
    first times the signed offset from each of them.
    """
    position = np.arange(length, dtype=np.float32) * np.float32(cells / length)
    cell = np.minimum(position.astype(np.intp), cells - 1)
    offset = position - cell
    rise = _fade(offset)
    pixel = np.arange(length)
    weights = np.zeros((length, cells + 1), dtype=np.float32)
    weights[pixel, cell] = 1.0 - rise
    weights[pixel, cell + 1] = rise
    slopes = np.zeros_like(weights)
    slopes[pixel, cell] = (1.0 - rise) * offset
    slopes[pixel, cell + 1] = rise * (offset - 1.0)
    return weights, slopes


def noise_from_angles(shape: tuple[int, int], angles: FloatArray) -> FloatArray:
    """Compute the gradient noise of a lattice with unit gradients of the given angles.

    The interpolation is separable, so the noise is a sum of two products of small matrices,
    ``W_y G_y' W_x^T``, one for each component of the gradients.

    ``shape`` is ``(H, W)``; ``angles`` is ``(cells_y + 1, cells_x + 1)`` in radians. Returns
    ``(H, W)`` float32 in [-1, 1], 0 on every lattice point. Source: Perlin, "Improving Noise"
    (2002), with fade 6t^5 - 15t^4 + 10t^3 and amplitude sqrt 2.
    """
    height, width = shape
    weights_y, slopes_y = _corner_weights(height, angles.shape[0] - 1)
    weights_x, slopes_x = _corner_weights(width, angles.shape[1] - 1)
    gradient_y = np.cos(angles).astype(np.float32)
    gradient_x = np.sin(angles).astype(np.float32)
    noise = slopes_y @ gradient_y @ weights_x.T + weights_y @ gradient_x @ slopes_x.T
    return np.asarray(np.float32(np.sqrt(2.0)) * noise, dtype=np.float32)


def perlin_noise(
    shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Draw Perlin noise with a given number of lattice cells.

    ``shape`` is ``(H, W)`` pixels and ``cells`` the lattice cells along each. Returns ``(H, W)``
    float32 in [-1, 1]. Raises ``ConfigurationError`` for an empty shape or fewer than one cell.

    >>> perlin_noise((64, 48), (4, 2), np.random.default_rng(0)).shape
    (64, 48)
    """
    if min(shape) < 1 or min(cells) < 1:
        raise ConfigurationError(
            f"Perlin noise of {shape} pixels in {cells} cells is impossible; each axis needs at "
            "least one pixel and one cell."
        )
    angles = rng.uniform(0.0, 2.0 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    return noise_from_angles(shape, angles)


def rotated_perlin_noise(
    shape: tuple[int, int], rng: np.random.Generator, *, max_power: int = 5, rotate: bool = True
) -> FloatArray:
    """Draw the noise of the paper's anomaly generator.

    Cells are ``2^a x 2^b`` with a and b uniform on 0 ... ``max_power``. The result is rotated by
    an angle uniform in (-90, 90) degrees, and is 0 outside the rotated square.
    ``shape`` is ``(H, W)``; returns ``(H, W)`` float32 in [-1, 1]. Source: EasyNet's anomaly
    generator, step 1.
    """
    powers = rng.integers(0, max_power + 1, 2)
    noise = perlin_noise(shape, (int(2 ** powers[0]), int(2 ** powers[1])), rng)
    if not rotate:
        return noise
    height, width = shape
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), float(rng.uniform(-90.0, 90.0)), 1.0
    )
    rotated = cv2.warpAffine(noise, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(rotated, dtype=np.float32)


def perlin_mask(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    threshold: float = 0.5,
    max_power: int = 5,
    rotate: bool = True,
) -> tuple[BoolArray, FloatArray]:
    """Draw a mask of Perlin islands, and its noise.

    Returns ``(mask, noise)``, both ``(H, W)``: ``mask`` is True where the noise exceeds
    ``threshold``: about 5 % of the pixels on average, and sometimes none. Source: EasyNet's
    anomaly generator, steps 1 and 2.
    """
    noise = rotated_perlin_noise(shape, rng, max_power=max_power, rotate=rotate)
    return noise > threshold, noise
