"""Augmentation of normal parts: turns are exact, and input and target are changed alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chiasm.detection.anomalies.generators import training_generator
from chiasm.detection.preparation.geometry import GeometryScale, geometry_picture
from chiasm.detection.preparation.surface import surface_normals
from chiasm.detection.rotation import rotated
from chiasm.detection.training.augmentation import Augmentation, lit, turned
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.samples import CropBox, PreparedSample

SIDE = 48
FIELDS = ("rgb", "xyz", "height", "normals", "depth", "valid", "foreground", "mask")


@pytest.fixture(scope="module")
def part() -> PreparedSample:
    """A lopsided hump over a tilted plane, with a mark on it."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    foreground = np.hypot(y - 25, 1.4 * (x - 20)) < 18
    normal = np.array([0.05, 0.2, -1.0]) / np.linalg.norm([0.05, 0.2, -1.0])
    rise = 0.01 * np.exp(-((y - 20) ** 2 + (x - 24) ** 2) / 200)
    rays = np.stack([(x - 24) / 600, (y - 24) / 600, np.ones_like(x)], axis=-1)
    xyz = rays * ((rise - 0.5) / (rays @ normal))[..., None]
    valid = foreground & (rng.random(foreground.shape) > 0.05)
    xyz = np.where(valid[..., None], xyz, 0).astype(np.float32)
    height = np.where(valid, xyz @ normal + 0.5, 0).astype(np.float32)
    mask = np.zeros_like(foreground)
    mask[20:24, 12:20] = True
    return PreparedSample(
        rgb=(rng.uniform(0.1, 0.9, (SIDE, SIDE, 3)) * foreground[..., None]).astype(np.float32),
        xyz=xyz,
        height=height,
        normals=surface_normals(xyz, valid),
        depth=np.where(valid, rise / 0.01, 0).astype(np.float32),
        valid=valid,
        foreground=foreground,
        mask=mask,
        box=CropBox(0, 0, SIDE, SIDE, SIDE),
        plane=(*normal.tolist(), 0.5),
        label=0,
    )


def test_four_quarters_are_a_full_turn(part):
    once = part
    for _ in range(4):
        once = turned(once, 1)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(once, name), getattr(part, name), err_msg=name)
    assert once.plane == pytest.approx(part.plane)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_a_rotation_by_ninety_degrees(part, quarters):
    exact, resampled = turned(part, quarters), rotated(part, 90 * quarters)
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(exact, name), getattr(resampled, name), atol=1e-6, err_msg=name
        )
    assert exact.plane == pytest.approx(resampled.plane)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_points_keep_their_height_and_their_normals(part, quarters):
    result = turned(part, quarters)
    points = result.xyz[result.valid] @ np.array(result.plane[:3]) + result.plane[3]
    np.testing.assert_allclose(points, result.height[result.valid], atol=1e-6)
    recomputed = surface_normals(result.xyz, result.valid)
    np.testing.assert_allclose(recomputed, result.normals, atol=1e-4)


def test_light_changes_colours_of_the_object_alone(part):
    result = lit(part, np.array([0.5, 1.0, 2.0]), 0.1)
    expected = np.clip(part.rgb * [0.5, 1.0, 2.0] + 0.1, 0, 1)
    inside = part.foreground
    np.testing.assert_allclose(result.rgb[inside], expected[inside], atol=1e-6)
    assert not result.rgb[~inside].any() and result.rgb.dtype == np.float32
    assert result.xyz is part.xyz and result.height is part.height
    blind = replace(part, rgb=None)
    assert lit(blind, np.ones(3), 0.1) is blind


def test_input_and_clean_part_are_changed_alike(part):
    normal = replace(part, mask=None)
    parts = SyntheticParts(
        [normal] * 4,
        numbers=range(4),
        generator=training_generator(),
        seed=2,
        augmentation=Augmentation(),
    )
    plain, defects = 0, 0
    for epoch in range(6):
        for position in range(4):
            drawn, again = parts.draw(epoch, position), parts.draw(epoch, position)
            outside = ~drawn.part.mask
            for name in ("rgb", "xyz", "height", "valid", "foreground"):
                clean = getattr(drawn.clean, name)
                np.testing.assert_array_equal(getattr(drawn.part, name)[outside], clean[outside])
                np.testing.assert_array_equal(clean, getattr(again.clean, name))
            defects += drawn.part.mask.any()
            plain += np.array_equal(drawn.clean.rgb, normal.rgb)
    assert defects > 0 and plain == 0


def test_batches_hold_the_pictures_of_the_changed_parts(part):
    scale = GeometryScale(height=0.02)
    parts = SyntheticParts(
        [replace(part, mask=None)] * 4,
        numbers=range(4),
        generator=training_generator(),
        seed=2,
        augmentation=Augmentation(),
    )
    (batch,) = fresh_loader(
        parts, batch=4, scale=scale, modalities=("rgb", "geometry"), shuffle=False
    )
    assert batch.mask.any()
    for position in range(4):
        clean = parts.draw(0, position).clean
        expected = torch.from_numpy(geometry_picture(clean, scale)).permute(2, 0, 1)
        assert torch.equal(batch.clean_geometry[position], expected)
        if not batch.mask[position].any():
            assert torch.equal(batch.geometry[position], expected)
    assert not torch.equal(batch.geometry, batch.clean_geometry)
