"""Preparation against a plain reference: every vote counted, whole frames, scipy's morphology."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from scipy import ndimage

from chiasm.detection.preparation.prepare import (
    PreparationSettings,
    crop_box,
    paste,
    paste_mask,
    prepare,
)
from chiasm.detection.preparation.support_plane import border_strips, fit_support_plane, most_votes
from chiasm.detection.preparation.surface import largest_cluster, surface_normals
from chiasm.detection.scenes.maker import render_scene
from chiasm.samples import CropBox, RGBDSample


def strip_of(valid):
    width = max(2, round(0.04 * max(valid.shape)))
    strip = np.ones_like(valid)
    strip[width:-width, width:-width] = False
    return strip


def plain_plane(xyz, valid, distance=None):
    """Coefficients and noise, or None; all hypotheses are put to all points at once."""
    points = xyz[strip_of(valid) & valid].astype(np.float64)
    if len(points) < 50:
        return None
    if distance is None:
        distance = 0.005 * np.median(np.linalg.norm(points, axis=1))
    draw = np.random.default_rng(0)
    few = points[draw.choice(len(points), min(len(points), 1500), replace=False)]
    a, b, c = few[draw.integers(0, len(few), (500, 3))].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > 1e-12
    normals, a = normals[usable] / lengths[usable, None], a[usable]
    apart = np.abs(few @ normals.T - (normals * a).sum(axis=1))
    best = (apart < distance).sum(axis=0).argmax()
    normal, offset = normals[best], -normals[best] @ a[best]
    for _ in range(3):
        near = points[np.abs(points @ normal + offset) < distance]
        if len(near) < max(30, 0.3 * len(points)):
            return None
        normal = np.linalg.eigh(np.cov(near.T))[1][:, 0]
        offset = -normal @ near.mean(axis=0)
    sign = -1 if offset < 0 else 1
    noise = 1.4826 * np.median(np.abs(near @ normal + offset))
    return sign * np.append(normal, offset), noise


def plain_cluster(mask, closing):
    square = np.ones((3, 3), bool)
    pad = closing + 1
    closed = ndimage.binary_closing(np.pad(mask, pad), square, iterations=max(closing, 1))
    labels, count = ndimage.label(closed[pad:-pad, pad:-pad], square)
    if count == 0:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel())[1:]
    inner = sizes.copy()
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        inner[edge[edge > 0] - 1] = 0
    ranked = inner if inner.max() > 0.1 * sizes.max() else sizes
    return ndimage.binary_fill_holes(labels == ranked.argmax() + 1)


def plain_normals(xyz, valid, reach=2):
    def step(axis):
        total, count = np.zeros_like(xyz), np.zeros((*valid.shape, 1), np.float32)
        points, measured = np.moveaxis(xyz, axis, 0), np.moveaxis(valid, axis, 0)
        sums, counts = np.moveaxis(total, axis, 0), np.moveaxis(count, axis, 0)
        for i in range(len(points) - reach):
            both = (measured[i] & measured[i + reach])[:, None]
            for j in (i, i + reach):
                sums[j] += np.where(both, points[i + reach] - points[i], 0)
                counts[j] += both
        return total / np.maximum(count, 1), count[..., 0] > 0

    (across, has_across), (along, has_along) = step(1), step(0)
    normals = np.cross(across, along)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = normals / np.maximum(length, 1e-20)
    normals = np.where((normals * xyz).sum(axis=2, keepdims=True) > 0, -normals, normals)
    has_normal = (valid & has_across & has_along)[..., None] & (length > 1e-20)
    return np.where(has_normal, normals, 0)


def plain_prepare(sample: RGBDSample, settings: PreparationSettings):
    """Box and arrays of the prepared part, from whole frames in turn."""
    plane = plain_plane(sample.xyz, sample.valid)
    closing = max(1, round(0.01 * max(sample.valid.shape)))
    if plane is None:
        foreground = plain_cluster(sample.valid, closing)
    else:
        coefficients, noise = plane
        height = sample.xyz @ coefficients[:3].astype(np.float32) + np.float32(coefficients[3])
        margin = max(0.0035 * abs(coefficients[3]), 4 * noise)
        foreground = plain_cluster((height > margin) & sample.valid, closing)
    box = crop_box(foreground, settings)
    room = box.side + max(box.height, box.width)

    def near(image):
        wide = np.pad(image, [(room, room)] * 2 + [(0, 0)] * (image.ndim - 2))
        top, left = box.top + room, box.left + room
        square = wide[top : top + box.side, left : left + box.side]
        at = np.floor((np.arange(settings.size) + 0.5) * box.side / settings.size).astype(int)
        return square[at[:, None], at]

    inside = near(foreground)
    valid = near(sample.valid) & inside
    xyz = np.where(valid[..., None], near(sample.xyz), 0)
    if plane is None:
        coefficients = np.array([0, 0, -1, xyz[..., 2][valid].max()])
    height = xyz @ coefficients[:3].astype(np.float32) + np.float32(coefficients[3])
    z = xyz[..., 2]
    low, high = z[valid].min(), z[valid].max()
    return box, {
        "foreground": inside,
        "valid": valid,
        "mask": near(sample.mask),
        "xyz": xyz,
        "height": np.where(valid, height, 0),
        "depth": np.where(valid, (z - low) / max(high - low, 1e-9), 0),
        "normals": plain_normals(xyz, valid),
        "plane": coefficients,
    }


def changed(sample: RGBDSample, xyz) -> RGBDSample:
    return replace(sample, xyz=xyz, valid=np.asarray((xyz != 0).any(axis=2)))


@cache
def scene(case: str) -> RGBDSample:
    kind, defect, size = {"large": ("bracket", "good", 400), "gear": ("gear", "hole", 128)}.get(
        case, ("flange", "hole", 96)
    )
    sample = render_scene(kind, defect, 3, size)
    xyz = sample.xyz.copy()
    if case == "complete":
        _, at = ndimage.distance_transform_edt(~sample.valid, return_indices=True)
        xyz = xyz[at[0], at[1]]
    elif case == "a block missing":
        xyz[40:56, 44:50] = 0
    elif case == "at the border":
        xyz = np.roll(xyz, 40, axis=1)
    elif case == "wide":
        return replace(changed(sample, xyz[20:76]), rgb=sample.rgb[20:76], mask=sample.mask[20:76])
    elif case == "no plane":
        xyz[sample.valid] += np.random.default_rng(0).uniform(0, 1, (sample.valid.sum(), 3))
    return changed(sample, xyz.astype(np.float32))


CASES = (
    "as it is", "gear", "large", "complete", "a block missing", "at the border", "wide", "no plane"
)  # fmt: skip


@pytest.mark.parametrize("fraction", [None, 0.5, 1.3], ids=["own", "fixed", "beyond the frame"])
@pytest.mark.parametrize("case", CASES)
def test_preparation_is_that_of_the_reference(case, fraction):
    sample, settings = scene(case), PreparationSettings(size=64, crop_fraction=fraction)
    part = prepare(sample, settings)
    box, expected = plain_prepare(sample, settings)
    assert part.box == box
    for name in ("foreground", "valid", "mask", "xyz"):
        assert np.array_equal(getattr(part, name), expected[name]), name
        assert getattr(part, name).dtype == expected[name].dtype
    # Roundings of float32 in another order: a few units of 2^-24 of metres and of unit vectors.
    for name in ("height", "depth", "normals", "plane"):
        np.testing.assert_allclose(getattr(part, name), expected[name], rtol=0, atol=1e-6)
    assert part.rgb.dtype == part.height.dtype == part.normals.dtype == np.float32
    assert (part.rgb[~part.foreground] == 0).all()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_part_without_points_is_what_differs_from_the_border_in_any_channel(channel):
    rgb = np.random.default_rng(0).uniform(0.4, 0.44, (60, 50, 3)).astype(np.float32)
    rgb[20:40, 15:30, channel] += 0.4
    everywhere = np.ones((60, 50), bool)
    settings = PreparationSettings(size=22)  # 20 and a margin: the crop keeps its pixels
    part = prepare(RGBDSample(rgb, None, everywhere), settings)
    border = rgb[strip_of(everywhere)]
    centre = np.median(border, axis=0)
    spread = np.median(np.abs(border - centre), axis=0) * 1.4826 + 0.02
    expected = (np.abs(rgb - centre) / spread).max(axis=2) > 4
    assert np.array_equal(np.argwhere(expected)[[0, -1]], [[20, 15], [39, 29]])
    box = crop_box(expected, settings)
    assert part.box == box
    cut = expected[box.top : box.top + box.side, box.left : box.left + box.side]
    assert np.array_equal(part.foreground, cut)


@pytest.mark.parametrize("outliers", [0.0, 0.2, 0.5, 0.65])
def test_the_plane_is_the_one_that_all_votes_elect(outliers):
    y, x = (np.mgrid[:80, :80] - 40) * 0.003
    for seed in range(8):
        rng = np.random.default_rng(seed)
        z = 0.6 + 0.3 * x - 0.1 * y + rng.normal(0, 0.001, x.shape)
        wild = rng.random(x.shape) < outliers
        z[wild] -= rng.uniform(0, 0.3, wild.sum())
        xyz = np.stack([x, y, z], axis=2).astype(np.float32)
        valid = rng.random(x.shape) > 0.1
        expected, result = plain_plane(xyz, valid), fit_support_plane(xyz, valid)
        assert (expected is None) == (result is None)
        if expected is not None:
            np.testing.assert_allclose(result.coefficients, expected[0], rtol=0, atol=1e-10)
            np.testing.assert_allclose(result.noise, expected[1], rtol=1e-9)


@pytest.mark.parametrize("order", ["as drawn", "the loser's first", "all alike"])
def test_no_plane_is_given_up_that_may_still_win(order):
    rng = np.random.default_rng(0)
    for number in (1, 60, 900):
        points = rng.uniform(-1, 1, (3, number))
        normals = rng.normal(size=(500, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        offsets = rng.uniform(-0.2, 0.2, 500)
        agree = np.abs(normals @ points + offsets[:, None]) < 0.3
        if order == "the loser's first":  # a plane of middling votes has all of them at once
            loser = agree.sum(axis=1).argsort()[len(agree) // 2]
            first = np.argsort(~agree[loser], kind="stable")
            points, agree = points[:, first], agree[:, first]
        elif order == "all alike":
            normals, offsets = normals[:1].repeat(500, 0), offsets[:1].repeat(500)
            agree = agree[:1].repeat(500, 0)
        assert most_votes(points, normals, offsets, 0.3) == agree.sum(axis=1).argmax()


@pytest.mark.parametrize("shape", [(40, 60), (9, 60), (60, 8), (4, 5)])
def test_border_strips_are_read_row_by_row(shape):
    valid = np.random.default_rng(0).random(shape) > 0.3
    image = np.random.default_rng(1).random((*shape, 3))
    width = max(2, round(0.04 * max(shape)))
    assert np.array_equal(border_strips(image, width), image[strip_of(valid)])
    assert np.array_equal(border_strips(valid, width), valid[strip_of(valid)])


def test_clusters_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(150):
        height, width = rng.integers(3, 50, 2)
        field = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), rng.uniform(0.3, 3))
        mask = field > np.quantile(field, rng.uniform(0.3, 1))
        closing = int(rng.integers(0, 4))
        expected = plain_cluster(mask, closing)
        assert np.array_equal(largest_cluster(mask, closing=closing), expected)


def test_of_clusters_of_one_size_the_first_is_taken():
    mask = np.zeros((40, 40), bool)
    mask[21:25, 3:7] = mask[20:24, 20:24] = mask[30:34, 5:9] = True
    result = largest_cluster(mask, closing=1)
    assert result[21, 21]
    assert result.sum() == 16


@pytest.mark.parametrize("shape", [(150, 40), (1, 9), (3, 70), (66, 2)])
def test_normals_are_those_of_whole_frames(shape):
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 0.01, (*shape, 3)).astype(np.float32) + np.float32([0, 0, 0.6])
    valid = rng.random(shape) > 0.4
    xyz[~valid] = 0
    for reach in (1, 2, 3):
        expected = plain_normals(xyz, valid, reach)
        result = surface_normals(xyz, valid, reach=reach)
        assert np.array_equal(result != 0, expected != 0)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("box", [CropBox(5, 7, 30, 60, 50), CropBox(-20, -9, 90, 60, 50)])
def test_a_mask_is_pasted_as_its_map_would_be(box):
    mask = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(48, 48)), (0, 0), 2) > 0
    expected = paste(mask.astype(np.float32), box) > 0.5
    pasted = paste_mask(mask, box)
    assert pasted.dtype == bool
    assert np.array_equal(pasted, expected)
    assert pasted.any()
    assert not pasted.all()
