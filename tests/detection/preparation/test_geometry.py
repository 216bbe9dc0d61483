"""Geometry pictures: missing places filled exactly, and the picture of the whole frame."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage

from chiasm.detection.preparation.geometry import (
    GeometryScale,
    estimate_geometry_scale,
    fill_nearest,
    geometry_picture,
)
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.scenes.maker import render_scene


def coordinates(shape):
    """Return the row and column of each pixel as its value."""
    return np.stack(np.indices(shape), axis=2).astype(np.float32)


def holes(seed, shape=(24, 31)):
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), rng.uniform(0.3, 4))
    measured = field > np.quantile(field, rng.uniform(0.1, 0.99))
    return measured


@pytest.mark.parametrize("seed", range(40))
def test_missing_places_take_the_nearest_the_leftmost_of_several(seed):
    measured = holes(seed)
    filled = fill_nearest(coordinates(measured.shape), measured).astype(int)
    sources = np.argwhere(measured)
    for pixel in np.argwhere(np.ones_like(measured)):
        squared = ((sources - pixel) ** 2).sum(axis=1)
        nearest = sources[squared == squared.min()]
        first = nearest[np.lexsort((nearest[:, 0], nearest[:, 1]))[0]]
        assert tuple(filled[tuple(pixel)]) == tuple(first)


@pytest.mark.parametrize("shape", [(24, 31), (1, 40), (40, 1), (3, 33_000)])
def test_filling_is_that_of_scipy(shape):
    measured = np.random.default_rng(0).random(shape) > 0.9
    rows, columns = ndimage.distance_transform_edt(
        ~measured, return_distances=False, return_indices=True
    )
    filled = fill_nearest(coordinates(shape), measured)
    assert np.array_equal(filled, np.stack([rows, columns], axis=2))


def test_filling_stays_where_it_is_needed():
    measured, region = holes(1), holes(2)
    values = coordinates(measured.shape)
    before = values.copy()
    filled = fill_nearest(values, measured, region=region)
    everywhere = fill_nearest(values, measured)
    assert (region & ~measured).any()
    assert np.array_equal(filled[region], everywhere[region])
    assert np.array_equal(filled[~region], values[~region])
    assert np.array_equal(values, before)
    assert fill_nearest(values, np.ones_like(measured)) is values


def plain_picture(part, scale):
    """The picture of the whole frame, in float64 where it can be."""

    def filled(values, measured):
        _, at = ndimage.distance_transform_edt(~measured, return_indices=True)
        return values[at[0], at[1]]

    measured = part.valid & part.foreground
    if scale.kind == "depth":
        channels = np.repeat(filled(part.depth, measured)[..., None], 3, axis=2)
    else:
        up = np.array(part.plane[:3])
        across = np.array([1.0, 0, 0]) - up[0] * up
        across /= np.linalg.norm(across)
        tilt = part.normals @ np.stack([across, np.cross(up, across)], axis=1)
        has_normal = measured & (part.normals != 0).any(axis=2)
        weight = has_normal.astype(np.float64)
        if scale.smoothing:
            tilt = cv2.GaussianBlur(tilt * weight[..., None], (0, 0), scale.smoothing)
            tilt /= np.maximum(cv2.GaussianBlur(weight, (0, 0), scale.smoothing), 1e-3)[..., None]
        height = filled(np.clip(part.height / scale.height, 0, 1.5) / 1.5, measured)
        tilt = filled(tilt, has_normal) if has_normal.any() else tilt * 0
        channels = np.dstack([height, 0.5 + 0.5 * np.clip(tilt, -1, 1)])
    return channels * part.foreground[..., None]


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("fraction", [None, 0.4, 1.2])
@pytest.mark.parametrize("kind", ["height_slopes", "depth"])
def test_pictures_are_those_of_whole_frames(kind, fraction, smoothing):
    sample = render_scene("gear", "hole", 3, 96)
    part = prepare(sample, PreparationSettings(size=80, crop_fraction=fraction))
    scale = GeometryScale(kind=kind, height=0.01, smoothing=smoothing)
    picture = geometry_picture(part, scale)
    assert picture.dtype == np.float32
    # Sums of 81 products in float32, and a division by a weight of at least 1e-3.
    np.testing.assert_allclose(picture, plain_picture(part, scale), rtol=0, atol=1e-5)


def test_a_part_without_measured_points_or_normals_has_a_picture():
    part = prepare(render_scene("flange", "good", 0, 64), PreparationSettings(size=48))
    nothing = replace(part, valid=np.zeros_like(part.valid))
    assert not geometry_picture(nothing, GeometryScale()).any()
    flat = replace(part, normals=np.zeros_like(part.normals))
    slopes = geometry_picture(flat, GeometryScale())[..., 1:]
    assert (slopes[part.foreground] == 0.5).all()


def test_the_scale_is_the_height_of_normal_parts():
    parts = [
        prepare(render_scene("flange", "good", seed, 64), PreparationSettings(size=48))
        for seed in range(3)
    ]
    scale = estimate_geometry_scale(parts, kind="depth")
    tops = sorted(np.quantile(part.height[part.valid], 0.995) for part in parts)
    assert scale == GeometryScale(kind="depth", height=float(tops[1]))
    without = [replace(part, height=None) for part in parts]
    assert estimate_geometry_scale(without).height == GeometryScale().height


def test_preparation_loads_nothing_that_it_does_not_need():
    heavy = ("torch", "scipy", "pandas", "pydantic", "skimage")
    code = (
        "import sys, chiasm.detection.preparation.geometry, chiasm.detection.preparation.prepare; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
