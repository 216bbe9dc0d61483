"""Draw the geometry of prepared parts as pictures; without torch, for a deployed runtime."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
    """How 3D becomes a picture of three channels; part of the model's contract.

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
    samples: Iterable[PreparedSample], *, kind: GeometryKind = "height_slopes"
) -> GeometryScale:
    """Estimate the height that becomes 1: the 99.5 % quantile of normal parts' heights."""
    tops = [
        float(np.quantile(s.height[s.valid], 0.995))
        for s in samples
        if s.height is not None and s.valid.any()
    ]
    return GeometryScale(kind=kind, height=max(float(np.median(tops)), 1e-6) if tops else 0.05)


def geometry_picture(sample: PreparedSample, scale: GeometryScale) -> FloatArray:
    """Draw a part's geometry as ``(S, S, 3)`` float32 in [0, 1], 0 off the object.

    Missing points inside the object take the value of the *nearest measured* point, never a mean
    of several. Slopes are sines of the tilt of the surface against the plane, from normals that
    are smoothed over measured points only.
    """
    if sample.height is None or sample.normals is None or sample.depth is None:
        raise DataError(f"{sample.source} has no 3D data, which this model was trained with.")
    picture = np.zeros((*sample.valid.shape, 3), np.float32)
    # Smoothing reaches four standard deviations beyond the object.
    window = window_of(sample.foreground, margin=math.ceil(4 * scale.smoothing) + 1)
    foreground = sample.foreground[window]
    measured = sample.valid[window] & foreground
    if not measured.any():
        return picture
    if scale.kind == "depth":
        depth = fill_nearest(sample.depth[window][..., None], measured, region=foreground)
        channels = cv2.merge([depth] * 3)
    else:
        height = np.clip(sample.height[window] / scale.height, 0.0, 1.5) / 1.5
        height = fill_nearest(height[..., None], measured, region=foreground)
        normals = sample.normals[window]
        has_normal = measured & (cv2.inRange(normals, (0, 0, 0), (0, 0, 0)) == 0)
        tilt = np.zeros((*measured.shape, 2), np.float32)
        if has_normal.any():
            tilt = _tilt(normals, has_normal, sample.plane, scale.smoothing)
            tilt = fill_nearest(tilt, has_normal, region=foreground)
        channels = cv2.merge([height, 0.5 + 0.5 * np.clip(tilt, -1, 1)])
    cv2.copyTo(channels, foreground.view(np.uint8), picture[window])
    return picture


def _tilt(
    normals: FloatArray,
    has_normal: BoolArray,
    plane: tuple[float, float, float, float] | None,
    smoothing: float,
) -> FloatArray:
    """Return the components ``(H, W, 2)`` of smoothed normals along the plane's two axes."""
    up = np.array(plane[:3] if plane is not None else (0.0, 0.0, -1.0))
    across = np.array([1.0, 0.0, 0.0]) - up[0] * up
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(up, across)]).astype(np.float32)
    tilts = [cv2.transform(normals, axis[None]) for axis in axes]
    if smoothing > 0:
        weight = has_normal.astype(np.float32)
        total = np.maximum(cv2.GaussianBlur(weight, (0, 0), smoothing), 1e-3)
        tilts = [cv2.GaussianBlur(tilt * weight, (0, 0), smoothing) / total for tilt in tilts]
    tilt: np.ndarray = cv2.merge(tilts)
    return tilt


def fill_nearest(
    values: FloatArray, measured: BoolArray, *, region: BoolArray | None = None
) -> FloatArray:
    """Fill missing pixels with the value of the nearest measured one, never a mean of several.

    Of several equally near pixels, the leftmost is taken, and of those the uppermost.

    Args:
        values: ``(H, W, C)``.
        measured: ``(H, W)``, with at least one True.
        region: ``(H, W)``, the pixels to fill; others keep their values. None fills all.
    """
    missing = np.flatnonzero(~measured if region is None else region & ~measured)
    if len(missing) == 0:
        return values
    filled = values.copy()
    pixels = filled.reshape(-1, values.shape[2])
    pixels[missing] = pixels[_nearest(measured, missing)]
    return filled


def _nearest(measured: BoolArray, pixels: IntArray) -> IntArray:
    """Return the flat indices of the measured pixels that are nearest to ``pixels`` ``(P,)``.

    Exact: finds the nearest pixel in each column, then searches the columns to the left and right
    in turn while they can hold a nearer one.
    """
    height, width = measured.shape
    far = height + width  # more than any distance in the picture
    # The narrower types are several times faster.
    narrow, wide = (np.int16, np.int32) if height + far < 2**15 else (np.int32, np.int64)
    row_indices = np.arange(height, dtype=narrow)[:, None]
    above = np.maximum.accumulate(np.where(measured, row_indices, narrow(-far)), axis=0)
    below = np.minimum.accumulate(
        np.where(measured, row_indices, narrow(height + far))[::-1], axis=0
    )[::-1]
    up, down = row_indices - above, below - row_indices
    nearest_row = np.where(up <= down, above, below).ravel()
    squared = np.square(np.minimum(up, down), dtype=wide).ravel()
    column = pixels % width
    row_start = pixels - column  # flat index of the first pixel in each pixel's row
    best, best_column = squared[pixels], column.copy()
    active, step = np.arange(len(pixels)), 1
    while len(active := active[best[active] >= step * step]):
        start, least, least_column = row_start[active], best[active], best_column[active]
        left = np.maximum(column[active] - step, 0)
        right = np.minimum(column[active] + step, width - 1)
        for candidate, wins_ties in ((left, 1), (right, 0)):
            distance = squared[start + candidate] + step * step
            better = distance < least + wins_ties
            least = np.where(better, distance, least)
            least_column = np.where(better, candidate, least_column)
        best[active], best_column[active] = least, least_column
        step += 1
    return nearest_row[row_start + best_column] * np.intp(width) + best_column
