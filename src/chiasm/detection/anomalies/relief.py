"""Change a part's surface consistently in height, points, normals, depth and colour."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from chiasm.detection.anomalies.footprints import Footprint
from chiasm.detection.preparation.surface import surface_normals
from chiasm.samples import BoolArray, FloatArray, PreparedSample

VISIBLE_COLOUR = 0.035  # of a channel in [0, 1]: nine grey levels of 255
VISIBLE_STEP = 0.2  # of height, in pixel pitches
NORMAL_REACH = 3  # pixels around a change within which normals may depend on it


def visible_mask(
    before: FloatArray | None, after: FloatArray | None, delta: FloatArray | None, pitch: float
) -> BoolArray:
    """Mark pixels ``(h, w)`` with a visible change of colour or height, and close small gaps.

    A change of colour is visible above ``VISIBLE_COLOUR``, one of height above ``VISIBLE_STEP``
    pitches and 8 % of the largest change.
    """
    visible: BoolArray | None = None
    if before is not None and after is not None:
        visible = np.abs(after - before).max(axis=-1) > VISIBLE_COLOUR
    if delta is not None:
        size = np.abs(delta)
        raised = size > max(VISIBLE_STEP * pitch, 0.08 * float(size.max(initial=0.0)))
        visible = raised if visible is None else visible | raised
    assert visible is not None
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    padded = cv2.copyMakeBorder(visible.astype(np.uint8), 3, 3, 3, 3, cv2.BORDER_REFLECT)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[3:-3, 3:-3]
    return np.asarray(cv2.medianBlur(closed, 3) > 0)


def move_points(
    xyz: FloatArray, delta: FloatArray, plane: tuple[float, float, float, float] | None
) -> FloatArray:
    """Move points ``(..., 3)`` so that each gains ``delta`` ``(...)`` metres above the plane.

    Each point stays on its line of sight, so that the organised grid still fits the image. If the
    line is too flat against the plane, or without a plane, the point moves along the normal.
    """
    normal = np.array(plane[:3] if plane is not None else (0.0, 0.0, -1.0), dtype=np.float32)
    along = xyz @ normal
    distance = np.linalg.norm(xyz, axis=-1)
    steep = along < -0.2 * distance
    safe = np.where(steep, along, 1.0)[..., None]
    direction = np.where(steep[..., None], xyz / safe, normal)
    return np.asarray(xyz + delta[..., None] * direction, dtype=np.float32)


def _depth_per_metre(sample: PreparedSample) -> float:
    """Return the slope of the min-max depth against the camera distance z."""
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
    dropout: BoolArray | None = None,
    mask: BoolArray | None = None,
    pitch: float = 1.0,
    kind: str = "",
) -> PreparedSample:
    """Write a defect into a window of a sample, without a change outside the defect's mask.

    ``rgb`` ``(h, w, 3)`` is the window's new colour, ``delta`` ``(h, w)`` its gain of height in
    metres, ``dropout`` ``(h, w)`` the points that the sensor loses, ``mask`` ``(h, w)`` the
    defect's pixels (None takes the visible change). Changes of absent modalities are ignored. Only
    normals may change up to ``NORMAL_REACH`` pixels outside the mask. The mask is added to that of
    the sample; the sample is returned unchanged if no change is visible.
    """
    window = (rows, cols)
    rgb_before = None if sample.rgb is None else sample.rgb[window]
    rgb_after = None if rgb is None or rgb_before is None else np.clip(rgb, 0.0, 1.0)
    change = None if sample.xyz is None or delta is None else delta
    if rgb_after is None and change is None:
        return sample
    if mask is None:
        mask = visible_mask(rgb_before, rgb_after, change, pitch)
    mask = mask & sample.foreground[window]
    if not mask.any():
        return sample
    total = np.zeros(sample.foreground.shape, dtype=bool) if sample.mask is None else sample.mask
    total = total.copy()
    total[window] |= mask
    result = replace(sample, mask=total, label=1, kind=kind or sample.kind)
    if rgb_after is not None and sample.rgb is not None and rgb_before is not None:
        image = sample.rgb.copy()
        image[window] = np.where(mask[..., None], rgb_after, rgb_before)
        result = replace(result, rgb=image)
    if change is not None:
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        tight = slice(top, top + height), slice(left, left + width)
        result = _change_relief(
            result,
            slice(rows.start + top, rows.start + top + height),
            slice(cols.start + left, cols.start + left + width),
            change[tight],
            mask[tight],
            None if dropout is None else dropout[tight],
        )
    return result


def _tie_repeats(delta: FloatArray, xyz: FloatArray) -> FloatArray:
    """Give all copies of one point the change of the first copy.

    Nearest-neighbour enlargement repeats points along rows and columns. Different changes along
    one line of sight would make a small wall that no sensor sees.
    """
    for axis in (0, 1):
        first = np.arange(delta.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        first = np.broadcast_to(first, delta.shape).copy()
        later, earlier = (xyz[1:], xyz[:-1]) if axis == 0 else (xyz[:, 1:], xyz[:, :-1])
        same = later == earlier
        repeats = same[..., 0] & same[..., 1] & same[..., 2]  # faster than a reduction over 3
        tail = first[1:] if axis == 0 else first[:, 1:]
        tail[repeats] = 0
        first = np.maximum.accumulate(first, axis=axis)
        delta = np.take_along_axis(delta, first, axis=axis)
    return delta


def _change_relief(
    sample: PreparedSample,
    rows: slice,
    cols: slice,
    delta: FloatArray,
    mask: BoolArray,
    dropout: BoolArray | None,
) -> PreparedSample:
    assert sample.xyz is not None
    window = (rows, cols)
    valid = sample.valid
    moved = mask & valid[window]
    if dropout is not None:
        valid = valid.copy()
        valid[window] &= ~(dropout & mask)
    xyz = sample.xyz.copy()
    tied = _tie_repeats(np.where(moved, delta, np.float32(0.0)), sample.xyz[window])
    step = np.where(moved, tied, np.float32(0.0))
    xyz[window][moved] = move_points(sample.xyz[window][moved], step[moved], sample.plane)
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
        result = replace(result, normals=_update_normals(sample.normals, xyz, valid, rows, cols))
    return result


def _update_normals(
    normals: FloatArray, xyz: FloatArray, valid: BoolArray, rows: slice, cols: slice
) -> FloatArray:
    """Recompute the normals in a window and the pixels around it."""
    size = valid.shape
    wide = [
        slice(max(s.start - 2 * NORMAL_REACH, 0), min(s.stop + 2 * NORMAL_REACH, n))
        for s, n in zip((rows, cols), size)
    ]
    inner = [
        slice(max(s.start - NORMAL_REACH, 0), min(s.stop + NORMAL_REACH, n))
        for s, n in zip((rows, cols), size)
    ]
    recomputed = surface_normals(xyz[wide[0], wide[1]], valid[wide[0], wide[1]])
    window = tuple(slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, wide))
    updated = normals.copy()
    updated[inner[0], inner[1]] = recomputed[window]
    return updated


def mask_window(footprint: Footprint, mask: BoolArray) -> BoolArray:
    """Return an ``(H, W)`` mask in a footprint's window."""
    return mask[footprint.rows, footprint.cols]
