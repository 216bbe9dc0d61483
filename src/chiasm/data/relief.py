"""Changing a part's surface so that height, points, normals, depth and colour still agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from chiasm.data.footprints import Footprint
from chiasm.data.surface import surface_normals
from chiasm.samples import BoolArray, FloatArray, PreparedSample

VISIBLE_COLOUR = 0.035  # change of a channel (range 1) that an eye notices: nine grey levels of 255
VISIBLE_STEP = 0.2  # change of height, in pixel pitches
NORMAL_REACH = 3  # pixels around a change in which a normal may depend on it
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


def visible_mask(
    old: FloatArray | None, new: FloatArray | None, delta: FloatArray | None, pitch: float
) -> BoolArray:
    """Pixels whose colour or height changed enough to be seen, small gaps closed, ``(h, w)``.

    Colour counts above ``VISIBLE_COLOUR``; height above ``VISIBLE_STEP`` pitches and 8 % of the
    largest change.
    """
    seen: BoolArray | None = None
    if old is not None and new is not None:
        seen = np.abs(new - old).max(axis=-1) > VISIBLE_COLOUR
    if delta is not None:
        size = np.abs(delta)
        raised = size > max(VISIBLE_STEP * pitch, 0.08 * float(size.max(initial=0.0)))
        seen = raised if seen is None else seen | raised
    assert seen is not None
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    padded = cv2.copyMakeBorder(seen.astype(np.uint8), 3, 3, 3, 3, cv2.BORDER_REFLECT)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[3:-3, 3:-3]
    return np.asarray(cv2.medianBlur(closed, 3) > 0)


def moved_points(
    xyz: FloatArray, delta: FloatArray, plane: tuple[float, float, float, float] | None
) -> FloatArray:
    """Points ``(..., 3)`` moved so that each gains ``delta`` ``(...)`` metres above the plane.

    Each point stays on its own line of sight, so that the organised grid still fits the image;
    where the line is too flat against the plane (or there is no plane) it moves along the normal.
    """
    normal = np.array(plane[:3] if plane is not None else (0.0, 0.0, -1.0), dtype=np.float32)
    along = xyz @ normal
    distance = np.linalg.norm(xyz, axis=-1)
    steep = along < -0.2 * distance
    safe = np.where(steep, along, 1.0)[..., None]
    direction = np.where(steep[..., None], xyz / safe, normal)
    return np.asarray(xyz + delta[..., None] * direction, dtype=np.float32)


def _depth_per_metre(sample: PreparedSample) -> float:
    """Slope of the min-max depth against the camera distance z."""
    assert sample.depth is not None and sample.xyz is not None
    depth = sample.depth[sample.valid]
    z = sample.xyz[..., 2][sample.valid]
    low, high = int(depth.argmin()), int(depth.argmax())
    gap = float(z[high] - z[low])
    return float(depth[high] - depth[low]) / gap if gap > 1e-9 else 0.0


def apply_change(
    sample: PreparedSample,
    rows: slice,
    cols: slice,
    *,
    rgb: FloatArray | None = None,
    delta: FloatArray | None = None,
    lost: BoolArray | None = None,
    mask: BoolArray | None = None,
    pitch: float = 1.0,
    kind: str = "",
) -> PreparedSample:
    """Write a defect into a window of a sample; everything outside its mask stays as it was.

    ``rgb`` ``(h, w, 3)`` is the window's new colour, ``delta`` ``(h, w)`` its gain of height in
    metres, ``lost`` ``(h, w)`` the points that the sensor no longer sees, ``mask`` ``(h, w)`` the
    defect's pixels (None: wherever the change is visible). What the sample's modalities cannot show
    is ignored. Only normals may change up to ``NORMAL_REACH`` pixels outside the mask. The mask is
    added to the sample's own; with nothing visible the sample comes back unchanged.
    """
    window = (rows, cols)
    old_rgb = None if sample.rgb is None else sample.rgb[window]
    new_rgb = None if rgb is None or old_rgb is None else np.clip(rgb, 0.0, 1.0)
    change = None if sample.xyz is None or delta is None else delta
    if new_rgb is None and change is None:
        return sample
    if mask is None:
        mask = visible_mask(old_rgb, new_rgb, change, pitch)
    mask = mask & sample.foreground[window]
    if not mask.any():
        return sample
    total = np.zeros(sample.foreground.shape, dtype=bool) if sample.mask is None else sample.mask
    total = total.copy()
    total[window] |= mask
    result = replace(sample, mask=total, label=1, kind=kind or sample.kind)
    if new_rgb is not None and sample.rgb is not None and old_rgb is not None:
        image = sample.rgb.copy()
        image[window] = np.where(mask[..., None], new_rgb, old_rgb)
        result = replace(result, rgb=image)
    if change is not None:
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        tight = slice(top, top + height), slice(left, left + width)
        result = _with_new_relief(
            result,
            slice(rows.start + top, rows.start + top + height),
            slice(cols.start + left, cols.start + left + width),
            change[tight],
            mask[tight],
            None if lost is None else lost[tight],
        )
    return result


def _same_for_repeats(delta: FloatArray, xyz: FloatArray) -> FloatArray:
    """Give copies of one point the change of the first of them.

    Nearest-neighbour enlargement repeats points along rows and columns; moved apart along one line
    of sight they would stand as a little wall that no sensor sees.
    """
    for axis in (0, 1):
        first = np.arange(delta.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        first = np.broadcast_to(first, delta.shape).copy()
        later, before = (xyz[1:], xyz[:-1]) if axis == 0 else (xyz[:, 1:], xyz[:, :-1])
        same = later == before
        repeats = same[..., 0] & same[..., 1] & same[..., 2]  # faster than a reduction over 3
        tail = first[1:] if axis == 0 else first[:, 1:]
        tail[repeats] = 0
        first = np.maximum.accumulate(first, axis=axis)
        delta = np.take_along_axis(delta, first, axis=axis)
    return delta


def _with_new_relief(
    sample: PreparedSample,
    rows: slice,
    cols: slice,
    delta: FloatArray,
    mask: BoolArray,
    lost: BoolArray | None,
) -> PreparedSample:
    assert sample.xyz is not None
    window = (rows, cols)
    valid = sample.valid
    moved = mask & valid[window]
    if lost is not None:
        valid = valid.copy()
        valid[window] &= ~(lost & mask)
    xyz = sample.xyz.copy()
    shared = _same_for_repeats(np.where(moved, delta, np.float32(0.0)), sample.xyz[window])
    step = np.where(moved, shared, np.float32(0.0))
    xyz[window][moved] = moved_points(sample.xyz[window][moved], step[moved], sample.plane)
    xyz[window][~valid[window] & mask] = 0.0
    result = replace(sample, xyz=xyz, valid=valid)
    if sample.height is not None:
        height = sample.height.copy()
        height[window] = np.where(valid[window] | ~mask, height[window] + step, 0.0)
        result = replace(result, height=height)
    if sample.depth is not None and sample.valid.any():
        depth = sample.depth.copy()
        per_metre = np.float32(_depth_per_metre(sample))
        nearer = depth[window] + per_metre * (xyz[window][..., 2] - sample.xyz[window][..., 2])
        nearer = np.where(valid[window], np.clip(nearer, 0.0, 1.0), 0.0)
        depth[window] = np.where(mask, nearer, depth[window])
        result = replace(result, depth=depth)
    if sample.normals is not None:
        result = replace(result, normals=_renewed_normals(sample.normals, xyz, valid, rows, cols))
    return result


def _renewed_normals(
    normals: FloatArray, xyz: FloatArray, valid: BoolArray, rows: slice, cols: slice
) -> FloatArray:
    """Normals recomputed in a window and the pixels around it, the rest as before."""
    size = valid.shape
    wide = [
        slice(max(s.start - 2 * NORMAL_REACH, 0), min(s.stop + 2 * NORMAL_REACH, n))
        for s, n in zip((rows, cols), size)
    ]
    inner = [
        slice(max(s.start - NORMAL_REACH, 0), min(s.stop + NORMAL_REACH, n))
        for s, n in zip((rows, cols), size)
    ]
    fresh = surface_normals(xyz[wide[0], wide[1]], valid[wide[0], wide[1]])
    part = tuple(slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, wide))
    renewed = normals.copy()
    renewed[inner[0], inner[1]] = fresh[part]
    return renewed


def inside(footprint: Footprint, where: BoolArray) -> BoolArray:
    """The part of an ``(H, W)`` mask that lies in a footprint's window."""
    return where[footprint.rows, footprint.cols]
