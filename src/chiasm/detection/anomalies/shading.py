"""How a part is lit and how coarse it is: what a synthetic defect needs to look real on it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from chiasm.samples import BoolArray, FloatArray, PreparedSample

AMBIENT = 0.35  # share of the light that comes from everywhere


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a defect needs to know of a part to be drawn on it.

    Attributes:
        pitch: metres per pixel on the surface; 1 for RGB-only data.
        relief: metres between the object's low and high points; 20 for RGB-only data.
        light: ``(3,)`` unit vector towards the light, along the image's right, down, and height.
    """

    pitch: float
    relief: float
    light: FloatArray


def _float(image: object) -> FloatArray:
    return np.asarray(image, dtype=np.float32)


def brightness(rgb: FloatArray) -> FloatArray:
    """Luma of ``(..., 3)`` RGB in [0, 1] (ITU-R BT.601 weights)."""
    return rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def slopes_to_normals(height: FloatArray, pitch: float) -> FloatArray:
    """Unit normals ``(h, w, 3)`` (right, down, up) of a complete height map ``(h, w)``."""
    down, right = np.gradient(height / np.float32(pitch))
    normals = np.stack([-right, -down, np.ones_like(height)], axis=-1)
    return np.asarray(normals / np.linalg.norm(normals, axis=-1, keepdims=True), dtype=np.float32)


def fill_missing(values: FloatArray, known: BoolArray) -> FloatArray:
    """Give every unknown pixel of ``(h, w)`` the value of the nearest known one (0 if none is).

    Only for shading and for judging how high the surroundings are; never written into a sample.
    """
    if known.all():
        return values
    if not known.any():
        return np.zeros_like(values)
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    by_label[labels[known]] = values[known]
    return np.asarray(by_label[labels])


def _estimate_light(sample: PreparedSample, pitch: float, rng: np.random.Generator) -> FloatArray:
    """Least-squares light direction from brightness against normals, jittered."""
    guess = np.array([0.0, 0.0, 1.0])
    if sample.rgb is not None and sample.height is not None:
        step = 4
        coarse = _float(cv2.blur(sample.height, (step, step))[::step, ::step])
        solid = cv2.erode(sample.valid.astype(np.uint8), np.ones((9, 9), np.uint8))
        known = solid[::step, ::step] > 0
        if known.sum() >= 30:
            normals = slopes_to_normals(coarse, pitch * step)[known].astype(np.float64)
            shade = brightness(sample.rgb[::step, ::step][known]).astype(np.float64)
            ridge = 0.02 * len(shade) * np.eye(3)
            target = normals.T @ shade + ridge @ (guess * shade.mean())
            fitted = np.linalg.solve(normals.T @ normals + ridge, target)
            if np.linalg.norm(fitted) > 1e-6:
                guess = fitted / np.linalg.norm(fitted)
    light = guess + np.append(rng.normal(0.0, 0.25, 2), 0.0)
    light[2] = max(light[2], 0.45)
    return np.asarray(light / np.linalg.norm(light), dtype=np.float32)


def read_scene(sample: PreparedSample, rng: np.random.Generator) -> Scene:
    """Measure pixel pitch and relief of a part, and estimate where its light comes from."""
    pitch, relief = 1.0, 20.0
    if sample.xyz is not None and sample.height is not None:
        rows = slice(None, None, 3)
        # Over several pixels, because nearest-neighbour enlargement repeats points.
        far = 6
        pair = sample.valid[rows, far:] & sample.valid[rows, :-far]
        if pair.any():
            gap = sample.xyz[rows, far:][pair] - sample.xyz[rows, :-far][pair]
            pitch = max(float(np.median(np.hypot(gap[:, 0], gap[:, 1]))) / far, 1e-7)
            low, high = np.percentile(sample.height[rows][sample.valid[rows]], [2, 98])
            relief = max(float(high - low), 2.0 * pitch)
    return Scene(pitch, relief, _estimate_light(sample, pitch, rng))


def local_height(sample: PreparedSample, rows: slice, cols: slice) -> FloatArray:
    """Height in a window with missing points filled from the nearest; 0 for RGB-only data."""
    if sample.height is None:
        return np.zeros((rows.stop - rows.start, cols.stop - cols.start), dtype=np.float32)
    return fill_missing(sample.height[rows, cols], sample.valid[rows, cols])


def shading_ratio(height: FloatArray, delta: FloatArray, scene: Scene) -> FloatArray:
    """How much brighter each pixel gets when ``delta`` is added to ``height``.

    ``(h, w)`` arrays in metres; returns ``(h, w)`` factors in [0.3, 1.8]: Lambert's cosine with
    ambient light, times a darkening of places that now lie lower than their surroundings.
    """
    smooth = _float(cv2.GaussianBlur(height, (0, 0), 1.2))
    before = slopes_to_normals(smooth, scene.pitch) @ scene.light
    after = slopes_to_normals(smooth + delta, scene.pitch) @ scene.light
    ratio = (AMBIENT + np.clip(after, 0.0, None)) / (AMBIENT + np.clip(before, 0.0, None))
    sunk = np.clip(cv2.GaussianBlur(delta, (0, 0), 3.0) - delta, 0.0, None) / scene.pitch
    occlusion = 1.0 / (1.0 + 0.12 * sunk)
    return np.asarray(np.clip(ratio * occlusion, 0.3, 1.8), dtype=np.float32)
