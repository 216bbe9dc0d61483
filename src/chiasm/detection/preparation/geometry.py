"""The geometry of prepared parts as pictures; free of torch, for a deployed runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.preparation.surface import window_of
from chiasm.errors import DataError
from chiasm.samples import BoolArray, FloatArray, PreparedSample

IntArray = NDArray[np.intp]
GeometryKind = Literal["height_slopes", "depth"]


@dataclass(frozen=True, slots=True)
class GeometryScale:
    """How 3D becomes a picture of three channels; travels in the model's contract.

    Attributes:
        kind: ``"height_slopes"`` (height over the plane, two slopes) or ``"depth"`` (min-max depth
            three times, as in the papers).
        height: metres above the support plane that become 1.
        smoothing: standard deviation, in pixels of the crop, of the normals' smoothing.
    """

    kind: GeometryKind = "height_slopes"
    height: float = 0.05
    smoothing: float = 1.0


def estimate_geometry_scale(
    samples: Sequence[PreparedSample], *, kind: GeometryKind = "height_slopes"
) -> GeometryScale:
    """Take the 99.5 % quantile of the heights of normal parts as the height that becomes 1."""
    tops = [
        float(np.quantile(s.height[s.valid], 0.995))
        for s in samples
        if s.height is not None and s.valid.any()
    ]
    return GeometryScale(kind=kind, height=max(float(np.median(tops)), 1e-6) if tops else 0.05)


def geometry_picture(sample: PreparedSample, scale: GeometryScale) -> FloatArray:
    """Draw a part's geometry as ``(S, S, 3)`` float32 in [0, 1], 0 off the object.

    Missing points inside the object take the values of the *nearest measured* point, never a mean
    of several; slopes are the tilt of the surface against the plane, as sines, from normals that
    are smoothed over measured points only.
    """
    if sample.height is None or sample.normals is None or sample.depth is None:
        raise DataError(f"{sample.source} has no 3D data, which this model was trained with.")
    picture = np.zeros((*sample.valid.shape, 3), np.float32)
    # Smoothing reaches four standard deviations; nothing else is seen beyond the object.
    window = window_of(sample.foreground, margin=math.ceil(4 * scale.smoothing) + 1)
    foreground = sample.foreground[window]
    known = sample.valid[window] & foreground
    if not known.any():
        return picture
    if scale.kind == "depth":
        depth = fill_nearest(sample.depth[window][..., None], known, needed=foreground)
        channels = cv2.merge([depth] * 3)
    else:
        height = np.clip(sample.height[window] / scale.height, 0.0, 1.5) / 1.5
        height = fill_nearest(height[..., None], known, needed=foreground)
        normals = sample.normals[window]
        has_normal = known & (cv2.inRange(normals, (0, 0, 0), (0, 0, 0)) == 0)
        tilt = np.zeros((*known.shape, 2), np.float32)
        if has_normal.any():
            tilt = _tilt(normals, has_normal, sample.plane, scale.smoothing)
            tilt = fill_nearest(tilt, has_normal, needed=foreground)
        channels = cv2.merge([height, 0.5 + 0.5 * np.clip(tilt, -1, 1)])
    cv2.copyTo(channels, foreground.view(np.uint8), picture[window])
    return picture


def _tilt(
    normals: FloatArray,
    known: BoolArray,
    plane: tuple[float, float, float, float] | None,
    smoothing: float,
) -> FloatArray:
    """Components ``(H, W, 2)`` of smoothed normals along the support plane's two axes."""
    up = np.array(plane[:3] if plane is not None else (0.0, 0.0, -1.0))
    across = np.array([1.0, 0.0, 0.0]) - up[0] * up
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(up, across)]).astype(np.float32)
    tilts = [cv2.transform(normals, axis[None]) for axis in axes]
    if smoothing > 0:
        weight = known.astype(np.float32)
        total = np.maximum(cv2.GaussianBlur(weight, (0, 0), smoothing), 1e-3)
        tilts = [cv2.GaussianBlur(tilt * weight, (0, 0), smoothing) / total for tilt in tilts]
    tilt: np.ndarray = cv2.merge(tilts)
    return tilt


def fill_nearest(
    values: FloatArray, known: BoolArray, *, needed: BoolArray | None = None
) -> FloatArray:
    """Give places that are not known the value of the nearest one that is, never a mean of several.

    Of several that are equally near, the leftmost is taken, and of those the uppermost.

    Args:
        values: ``(H, W, C)``.
        known: ``(H, W)``, with at least one True.
        needed: ``(H, W)``, where values are wanted; the others stay as they are. None is
            everywhere.
    """
    missing = np.flatnonzero(~known if needed is None else needed & ~known)
    if len(missing) == 0:
        return values
    filled = values.copy()
    places = filled.reshape(-1, values.shape[2])
    places[missing] = places[_nearest(known, missing)]
    return filled


def _nearest(known: BoolArray, places: IntArray) -> IntArray:
    """Flat indices of the known places that are nearest to some places ``(P,)``, exactly.

    The nearest in each column first; then columns to the left and right in turn, for as long as
    they are nearer than what was found.
    """
    height, width = known.shape
    far = height + width  # farther than anything in the picture
    # The narrower are several times faster.
    kind, wide = (np.int16, np.int32) if height + far < 2**15 else (np.int32, np.int64)
    own = np.arange(height, dtype=kind)[:, None]
    above = np.maximum.accumulate(np.where(known, own, kind(-far)), axis=0)
    below = np.minimum.accumulate(np.where(known, own, kind(height + far))[::-1], axis=0)[::-1]
    up, down = own - above, below - own
    nearest_row = np.where(up <= down, above, below).ravel()
    squared = np.square(np.minimum(up, down), dtype=wide).ravel()
    column = places % width
    first = places - column  # of each place's row
    best, found = squared[places], column.copy()
    near, step = np.arange(len(places)), 1
    while len(near := near[best[near] >= step * step]):
        row, nearer, where = first[near], best[near], found[near]
        left = np.maximum(column[near] - step, 0)
        right = np.minimum(column[near] + step, width - 1)
        for beside, wins_ties in ((left, 1), (right, 0)):
            apart = squared[row + beside] + step * step
            better = apart < nearer + wins_ties
            nearer, where = np.where(better, apart, nearer), np.where(better, beside, where)
        best[near], found[near] = nearer, where
        step += 1
    return nearest_row[first + found] * np.intp(width) + found
