"""Preparation: plane, object, normals, crop, cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.preparation.geometry import GeometryScale, geometry_picture
from chiasm.detection.preparation.prepare import PreparationSettings, crop_box, paste, prepare
from chiasm.detection.preparation.support_plane import fit_support_plane
from chiasm.detection.preparation.surface import largest_cluster, surface_normals
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.scenes.maker import make_scenes, render_scene
from chiasm.errors import DataError


def tilted_plane(size=96, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] - size / 2) * 0.002
    z = 0.6 + 0.2 * x - 0.1 * y + noise * rng.normal(size=x.shape)
    return np.stack([x, y, z], axis=2).astype(np.float32)


def test_the_plane_is_found_among_outliers():
    xyz = tilted_plane(noise=0.0002)
    rng = np.random.default_rng(1)
    wild = rng.random(xyz.shape[:2]) < 0.3
    xyz[wild, 2] -= rng.uniform(0.02, 0.2, wild.sum()).astype(np.float32)
    plane = fit_support_plane(xyz, np.ones(wild.shape, bool), distance=0.001)
    assert plane is not None
    true = np.array([0.2, -0.1, -1.0])
    true /= np.linalg.norm(true)
    assert abs(float(np.dot(plane.coefficients[:3], true))) > 0.9999
    assert np.abs(plane.height(xyz[~wild])).max() < 0.0015


def test_a_plane_that_is_not_there_is_not_found():
    rng = np.random.default_rng(0)
    cloud = rng.uniform(0.2, 1.0, (64, 64, 3)).astype(np.float32)
    assert fit_support_plane(cloud, np.ones((64, 64), bool), distance=0.001) is None
    assert fit_support_plane(cloud, np.zeros((64, 64), bool)) is None


def test_normals_of_a_plane_are_the_planes():
    xyz = tilted_plane()
    valid = np.random.default_rng(0).random(xyz.shape[:2]) > 0.3
    xyz[~valid] = 0
    normals = surface_normals(xyz, valid)
    has_normal = np.abs(normals).sum(axis=2) > 0
    assert has_normal.sum() > 0.5 * valid.sum()
    assert not has_normal[~valid].any()
    expected = np.array([0.2, -0.1, -1.0]) / np.linalg.norm([0.2, -0.1, -1.0])
    np.testing.assert_allclose(normals[has_normal] @ expected, 1.0, atol=1e-3)


def test_the_cluster_in_the_frame_wins_over_a_wall():
    mask = np.zeros((64, 64), bool)
    mask[:10] = True
    mask[25:45, 25:45] = True
    mask[30:34, 30:34] = False  # a hole inside the part belongs to it
    cluster = largest_cluster(mask)
    assert cluster[32, 32]
    assert not cluster[:10].any()
    assert abs(int(cluster.sum()) - 400) < 40


@pytest.mark.parametrize("fraction", [0.6, None])
def test_preparation_keeps_missing_points_missing(fraction):
    sample = render_scene("flange", "hole", 3, 128)
    part = prepare(sample, PreparationSettings(size=96, crop_fraction=fraction))
    assert part.xyz is not None and part.height is not None and part.normals is not None
    assert (part.xyz[~part.valid] == 0).all()
    real = {tuple(p) for p in sample.xyz[sample.valid]}
    assert all(tuple(p) in real for p in part.xyz[part.valid])  # no averages
    assert (part.height[part.valid] > -0.002).all()
    lengths = np.linalg.norm(part.normals, axis=2)
    assert np.all((np.abs(lengths - 1) < 1e-3) | (lengths == 0))
    assert part.mask is not None and part.mask.any()
    assert (part.rgb[~part.foreground] == 0).all()


def test_pasting_undoes_the_crop():
    sample = render_scene("flange", "good", 4, 128)
    part = prepare(sample, PreparationSettings(size=96, crop_fraction=0.7))
    back = paste(part.foreground.astype(np.float32), part.box) > 0.5
    assert back.shape == sample.valid.shape
    second = prepare(sample, PreparationSettings(size=96, crop_fraction=0.7))
    assert np.array_equal(part.foreground, second.foreground)
    inside = back & sample.valid
    assert inside.sum() > 0.9 * back.sum() * sample.valid[back].mean()


def test_a_frame_without_points_is_refused():
    sample = render_scene("flange", "good", 0, 64)
    empty = replace(sample, xyz=np.zeros_like(sample.xyz), valid=np.zeros_like(sample.valid))
    with pytest.raises(DataError, match="missing"):
        prepare(empty, PreparationSettings(size=64))


def test_single_sensors_are_prepared():
    sample = render_scene("flange", "good", 0, 96)
    shape_only = prepare(replace(sample, rgb=None), PreparationSettings(size=64))
    assert shape_only.rgb is None and shape_only.height is not None
    colour_only = prepare(
        replace(sample, xyz=None, valid=np.ones_like(sample.valid)), PreparationSettings(size=64)
    )
    assert colour_only.height is None and colour_only.foreground.any()


def test_geometry_pictures_are_bounded_and_zero_off_the_part():
    part = prepare(render_scene("flange", "good", 0, 96), PreparationSettings(size=64))
    for kind in ("height_slopes", "depth"):
        picture = geometry_picture(part, GeometryScale(kind=kind, height=0.02))
        assert picture.shape == (64, 64, 3)
        assert picture.min() >= 0 and picture.max() <= 1
        assert (picture[~part.foreground] == 0).all()


def test_the_cache_gives_back_what_was_prepared(tmp_path: Path):
    make_scenes(
        tmp_path / "d",
        products=("flange",),
        train=1,
        validation=0,
        test_good=0,
        test_per_defect=1,
        size=64,
    )
    source = Mvtec3d(tmp_path / "d" / "flange")
    settings = PreparationSettings(size=64)
    cache = PreparationCache(tmp_path / "cache")
    for ref in source.refs:
        first, second = cache.get(source, ref, settings), cache.get(source, ref, settings)
        for name in ("rgb", "xyz", "height", "normals", "valid", "foreground"):
            assert np.array_equal(getattr(first, name), getattr(second, name))
        assert (first.box, first.label, first.kind) == (second.box, second.label, second.kind)
    entries = list((tmp_path / "cache").rglob("*.npz"))
    assert len(entries) == len(source.refs)
    cache.get(source, source.refs[0], PreparationSettings(size=96))
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == len(source.refs) + 1


def test_a_damaged_entry_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    make_scenes(
        tmp_path / "d",
        products=("flange",),
        train=1,
        validation=0,
        test_good=0,
        test_per_defect=0,
        size=64,
    )
    source = Mvtec3d(tmp_path / "d" / "flange")
    cache, settings = PreparationCache(tmp_path / "cache"), PreparationSettings(size=64)
    expected = cache.get(source, source.refs[0], settings)
    (entry,) = (tmp_path / "cache").rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:100])
    second = cache.get(source, source.refs[0], settings)
    assert np.array_equal(expected.xyz, second.xyz)
    assert "damaged" in caplog.text


@pytest.mark.parametrize("points", [1, 3])
def test_a_covered_sensor_with_a_few_stray_points_is_told(points: int):
    xyz = np.zeros((600, 800, 3), np.float32)
    rows = np.arange(1, points + 1) * 137 % 599
    xyz[rows, rows, 2] = 0.6
    scene = render_scene("flange", "good", 0, 64)
    sample = replace(scene, rgb=None, xyz=xyz, valid=xyz[..., 2] > 0, mask=None)
    with pytest.raises(DataError, match="sensor covered"):
        prepare(sample, PreparationSettings(size=64, crop_fraction=0.9))


def test_a_frame_that_is_far_longer_than_wide_takes_no_square_of_its_length():
    foreground = np.zeros((32, 9000), bool)
    foreground[8:24, 100:8900] = True
    with pytest.raises(DataError, match="longer than wide"):
        crop_box(foreground, PreparationSettings())
    crop_box(foreground[:, :2000], PreparationSettings())
