"""Perlin noise against a pixel-by-pixel reference, and the statistics of its masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chiasm.detection.anomalies.perlin import noise_from_angles, perlin_mask, perlin_noise
from chiasm.errors import ConfigurationError


def reference_noise(shape: tuple[int, int], angles: np.ndarray) -> np.ndarray:
    """Perlin noise from the textbook, one pixel at a time."""
    fade = lambda t: 6 * t**5 - 15 * t**4 + 10 * t**3  # noqa: E731
    mix = lambda a, b, t: a + (b - a) * t  # noqa: E731
    result = np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y = i * (angles.shape[0] - 1) / shape[0]
            x = j * (angles.shape[1] - 1) / shape[1]
            cy, cx = int(y), int(x)
            dots = {}
            for a in (0, 1):
                for b in (0, 1):
                    angle = angles[cy + a, cx + b]
                    offset = (y - cy - a, x - cx - b)
                    dots[a, b] = math.cos(angle) * offset[0] + math.sin(angle) * offset[1]
            top = mix(dots[0, 0], dots[0, 1], fade(x - cx))
            bottom = mix(dots[1, 0], dots[1, 1], fade(x - cx))
            result[i, j] = math.sqrt(2) * mix(top, bottom, fade(y - cy))
    return result


@pytest.mark.parametrize("cells", [(1, 1), (4, 8), (3, 5), (16, 2)])
def test_noise_equals_textbook(cells: tuple[int, int]) -> None:
    shape = (40, 33)
    angles = np.random.default_rng(1).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    fast = noise_from_angles(shape, angles.astype(np.float32))
    np.testing.assert_allclose(fast, reference_noise(shape, angles), atol=2e-6)


def test_noise_is_bounded_continuous_and_zero_on_the_lattice() -> None:
    shape, cells = (256, 256), (8, 4)
    noise = perlin_noise(shape, cells, np.random.default_rng(2))
    assert np.abs(noise).max() <= 1.0
    np.testing.assert_allclose(noise[::32, ::64], 0.0, atol=1e-6)
    # The gradient of the noise is at most a few units a cell, so a pixel changes it little.
    for axis, per_cell in ((0, 32), (1, 64)):
        assert np.abs(np.diff(noise, axis=axis)).max() < 4.0 / per_cell


def test_mask_covers_about_a_twentieth() -> None:
    rng = np.random.default_rng(3)
    shares = np.array([perlin_mask((128, 128), rng, rotate=False)[0].mean() for _ in range(500)])
    # The method's analysis gives a mean of 5.4 % and 4.3 % empty masks before turning.
    error = shares.std() / np.sqrt(len(shares))
    assert abs(shares.mean() - 0.054) < 4 * error + 0.003
    empty = (shares == 0).mean()
    assert abs(empty - 0.043) < 4 * np.sqrt(0.043 / len(shares))


def test_mask_is_the_thresholded_noise() -> None:
    mask, noise = perlin_mask((64, 96), np.random.default_rng(4), threshold=0.2)
    assert mask.shape == (64, 96)
    assert (noise[mask] > 0.2).all() and (noise[~mask] <= 0.2).all()


@pytest.mark.parametrize(("shape", "cells"), [((0, 4), (1, 1)), ((4, 4), (0, 2))])
def test_impossible_noise_is_refused(shape: tuple[int, int], cells: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError, match="at least one pixel"):
        perlin_noise(shape, cells, np.random.default_rng(0))
