"""Changing a part's surface so that height, points, normals, depth and colour still agree."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from chiasm.detection.anomalies.footprints import Footprint
from chiasm.detection.preparation.surface import surface_normals
from chiasm.samples import BoolArray, FloatArray, PreparedSample

VISIBLE_COLOUR = 0.035  # change of a channel (range 1) that an eye notices: nine grey levels of 255
VISIBLE_STEP = 0.2  # change of height, in pixel pitches
NORMAL_REACH = 3  # pixels around a change in which a normal may depend on it


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
