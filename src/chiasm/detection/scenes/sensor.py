"""Effects of the colour camera and the 3D sensor: noise, quantisation, missing points."""

from __future__ import annotations

import cv2
import numpy as np

from chiasm.detection.scenes.surface import Rng, rise
from chiasm.samples import BoolArray, FloatArray

_STEP_M = 2.0e-5


def take_photo(colour: FloatArray, exposure: float, rng: Rng) -> FloatArray:
    """Turn linear light ``(S, S, 3)`` into an 8-bit picture, given as float32 in [0, 1].

    Applies the tone curve, then read and photon noise. Exposure and noise level vary between
    pictures, so that neither brightness nor file size tells good parts from defective ones.
    """
    noise = rng.uniform(0.004, 0.012)
    grain = rng.standard_normal(colour.shape, dtype=np.float32)
    value = tone(colour, exposure)
    value += np.float32(noise) * (np.float32(0.5) + np.sqrt(value)) * grain
    return np.asarray(np.rint(np.clip(value, 0, 1) * 255) / 255, dtype=np.float32)


def tone(colour: FloatArray, exposure: float) -> FloatArray:
    """Apply the camera's tone curve, gamma 2 with a soft shoulder; float32 in [0, 1]."""
    linear = np.maximum(colour * np.float32(exposure), 0)
    bent = linear / (1 + np.float32(0.18) * linear)
    return np.clip(bent, 0, 1) ** np.float32(1 / 2.0)


def missing_chance(points: FloatArray, highlight: FloatArray, occluded: FloatArray) -> FloatArray:
    """Return each pixel's chance in [0, 1] of a missing 3D point, for the scene without noise.

    ``points`` is ``(S, S, 3)`` metres; ``highlight`` and ``occluded`` are ``(S, S)`` in [0, 1].
    Points are lost at steps in depth, in the pattern projector's shadow and where a highlight
    saturates the sensor.
    """
    z = points[..., 2] * np.float32(1000)
    high = cv2.dilate(z, np.ones((3, 3), np.uint8))
    low = cv2.erode(z, np.ones((3, 3), np.uint8))
    step = rise((high - low - np.float32(1.8)) / np.float32(2.5))
    glare = rise((highlight - np.float32(0.36)) / np.float32(0.2))
    return 1 - (1 - 0.75 * step) * (1 - 0.92 * occluded) * (1 - 0.85 * glare)


def measure_points(
    points: FloatArray, chance: FloatArray, rng: Rng
) -> tuple[FloatArray, BoolArray]:
    """Measure points ``(S, S, 3)`` in metres: noise grows with slope, steps of 0.02 mm, gaps.

    Returns the points as float32, 0 where missing, and a mask of the valid ones. The order of
    random draws does not depend on the scene, so that two scenes that differ in one region give
    equal measurements elsewhere.
    """
    shape = chance.shape
    z = points[..., 2]
    noise = np.float32(rng.uniform(3.0e-5, 9.0e-5)) * rng.standard_normal(shape, dtype=np.float32)
    # Gaps come in small clusters, as the sensor's matching windows do.
    draws = rng.random(shape, dtype=np.float32)
    clustered = cv2.resize(
        rng.random((shape[0] // 2, shape[1] // 2), dtype=np.float32),
        shape[::-1],
        interpolation=cv2.INTER_NEAREST,
    )
    draws = np.where(rng.random(shape, dtype=np.float32) < 0.6, clustered, draws)
    lost = np.float32(rng.uniform(0.001, 0.03))
    severity = np.float32(rng.uniform(0.6, 1.2))
    slope_x = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    slope_y = cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    pixel = np.float32(abs(float(points[0, 1, 0] - points[0, 0, 0])))
    slope = np.hypot(slope_x, slope_y) / pixel
    measured = z + noise * (1 + 2 * np.minimum(slope, 2))
    measured = np.rint(measured / np.float32(_STEP_M)) * np.float32(_STEP_M)
    valid = draws >= np.maximum(np.clip(severity * chance, 0, 1), lost)
    noisy = points * (measured / z)[..., None]
    return np.where(valid[..., None], noisy, 0).astype(np.float32), valid
