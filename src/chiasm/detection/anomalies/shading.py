"""Estimate light and resolution of a part, so that synthetic defects on it look real."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from chiasm.samples import BoolArray, FloatArray, PreparedSample

AMBIENT = 0.35  # share of the light that comes from all directions


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Scale and light of a part.

    Attributes:
        pitch: metres per pixel on the surface; 1 for RGB-only data.
        relief: metres between the object's lowest and highest points; 20 for RGB-only data.
        light: ``(3,)`` unit vector towards the light, along the image's right, down, and height.
    """

    pitch: float
    relief: float
    light: FloatArray


def _float32(image: object) -> FloatArray:
    return np.asarray(image, dtype=np.float32)


def brightness(rgb: FloatArray) -> FloatArray:
    """Return the luma of ``(..., 3)`` RGB in [0, 1] (ITU-R BT.601 weights)."""
    return rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def slopes_to_normals(height: FloatArray, pitch: float) -> FloatArray:
    """Return unit normals ``(h, w, 3)`` (right, down, up) of a complete height map ``(h, w)``."""
    down, right = np.gradient(height / np.float32(pitch))
    normals = np.stack([-right, -down, np.ones_like(height)], axis=-1)
    return np.asarray(normals / np.linalg.norm(normals, axis=-1, keepdims=True), dtype=np.float32)


def fill_missing(values: FloatArray, measured: BoolArray) -> FloatArray:
    """Fill missing pixels of ``(h, w)`` with the nearest measured value, or 0 without one.

    Only for shading and for estimates of the surroundings' height; never written into a sample.
    """
    if measured.all():
        return values
    if not measured.any():
        return np.zeros_like(values)
    _, labels = cv2.distanceTransformWithLabels(
        (~measured).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    by_label[labels[measured]] = values[measured]
    return np.asarray(by_label[labels])


def _estimate_light(sample: PreparedSample, pitch: float, rng: np.random.Generator) -> FloatArray:
    """Fit the light's direction to brightness and normals by least squares, and jitter it."""
    direction = np.array([0.0, 0.0, 1.0])
    if sample.rgb is not None and sample.height is not None:
        step = 4
        coarse = _float32(cv2.blur(sample.height, (step, step))[::step, ::step])
        solid = cv2.erode(sample.valid.astype(np.uint8), np.ones((9, 9), np.uint8))
        measured = solid[::step, ::step] > 0
        if measured.sum() >= 30:
            normals = slopes_to_normals(coarse, pitch * step)[measured].astype(np.float64)
            shade = brightness(sample.rgb[::step, ::step][measured]).astype(np.float64)
            ridge = 0.02 * len(shade) * np.eye(3)
            target = normals.T @ shade + ridge @ (direction * shade.mean())
            fitted = np.linalg.solve(normals.T @ normals + ridge, target)
            if np.linalg.norm(fitted) > 1e-6:
                direction = fitted / np.linalg.norm(fitted)
    light = direction + np.append(rng.normal(0.0, 0.25, 2), 0.0)
    light[2] = max(light[2], 0.45)
    return np.asarray(light / np.linalg.norm(light), dtype=np.float32)


def measure_scene(sample: PreparedSample, rng: np.random.Generator) -> Scene:
    """Measure pixel pitch and relief of a part, and estimate the direction of its light."""
    pitch, relief = 1.0, 20.0
    if sample.xyz is not None and sample.height is not None:
        rows = slice(None, None, 3)
        # Over several pixels, because nearest-neighbour enlargement repeats points.
        step = 6
        pair = sample.valid[rows, step:] & sample.valid[rows, :-step]
        if pair.any():
            gap = sample.xyz[rows, step:][pair] - sample.xyz[rows, :-step][pair]
            pitch = max(float(np.median(np.hypot(gap[:, 0], gap[:, 1]))) / step, 1e-7)
            low, high = np.percentile(sample.height[rows][sample.valid[rows]], [2, 98])
            relief = max(float(high - low), 2.0 * pitch)
    return Scene(pitch, relief, _estimate_light(sample, pitch, rng))


def local_height(sample: PreparedSample, rows: slice, cols: slice) -> FloatArray:
    """Return the height in a window, missing points filled from the nearest; 0 if RGB-only."""
    if sample.height is None:
        return np.zeros((rows.stop - rows.start, cols.stop - cols.start), dtype=np.float32)
    return fill_missing(sample.height[rows, cols], sample.valid[rows, cols])


def shading_ratio(height: FloatArray, delta: FloatArray, scene: Scene) -> FloatArray:
    """Return the factor of each pixel's brightness when ``delta`` is added to ``height``.

    Both are ``(h, w)`` in metres. The factors ``(h, w)`` lie in [0.3, 1.8]: Lambert's cosine with
    ambient light, times a darkening of pixels that lie lower than their surroundings.
    """
    smooth = _float32(cv2.GaussianBlur(height, (0, 0), 1.2))
    before = slopes_to_normals(smooth, scene.pitch) @ scene.light
    after = slopes_to_normals(smooth + delta, scene.pitch) @ scene.light
    ratio = (AMBIENT + np.clip(after, 0.0, None)) / (AMBIENT + np.clip(before, 0.0, None))
    sunk = np.clip(cv2.GaussianBlur(delta, (0, 0), 3.0) - delta, 0.0, None) / scene.pitch
    occlusion = 1.0 / (1.0 + 0.12 * sunk)
    return np.asarray(np.clip(ratio * occlusion, 0.3, 1.8), dtype=np.float32)
