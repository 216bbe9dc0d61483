"""The geometry of prepared parts as pictures; free of torch, for a deployed runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from scipy import ndimage

from chiasm.errors import DataError
from chiasm.samples import FloatArray, PreparedSample

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
    known = sample.valid & sample.foreground
    shape = (*known.shape, 3)
    if not known.any():
        return np.zeros(shape, np.float32)
    if scale.kind == "depth":
        channels = np.repeat(sample.depth[..., None], 3, axis=2)
    else:
        has_normal = known & (np.abs(sample.normals).sum(axis=2) > 0)
        tilt = _in_plane(sample)
        if scale.smoothing > 0:
            weight = has_normal.astype(np.float32)
            blurred = cv2.GaussianBlur(tilt * weight[..., None], (0, 0), scale.smoothing)
            total = cv2.GaussianBlur(weight, (0, 0), scale.smoothing)
            tilt = blurred / np.maximum(total, 1e-3)[..., None]
        tilt = fill_nearest(tilt, has_normal) if has_normal.any() else tilt * 0
        height = np.clip(sample.height / scale.height, 0.0, 1.5) / 1.5
        channels = np.concatenate([height[..., None], 0.5 + 0.5 * np.clip(tilt, -1, 1)], axis=2)
        channels[..., :1] = fill_nearest(channels[..., :1], known)
    if scale.kind == "depth":
        channels = fill_nearest(channels, known)
    return (channels * sample.foreground[..., None]).astype(np.float32)


def _in_plane(sample: PreparedSample) -> FloatArray:
    """Components ``(S, S, 2)`` of the normals along the support plane's two axes."""
    assert sample.normals is not None
    up = np.array(sample.plane[:3] if sample.plane is not None else (0.0, 0.0, -1.0))
    across = np.array([1.0, 0.0, 0.0]) - up[0] * up
    across /= np.linalg.norm(across)
    along = np.cross(up, across)
    return (sample.normals @ np.stack([across, along], axis=1)).astype(np.float32)


def fill_nearest(values: FloatArray, known: np.ndarray) -> FloatArray:
    """Give places that are not known the value of the nearest one that is, never a mean of several.

    Args:
        values: ``(H, W, C)``.
        known: ``(H, W)`` bool, with at least one True.
    """
    if known.all():
        return values
    rows, columns = ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    return values[rows, columns]
