"""Fast point feature histograms against the paper's formulas, written out pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chiasm.detection.layers.fpfh import estimate_normals, fpfh
from chiasm.detection.preparation.surface import surface_normals
from chiasm.errors import ConfigurationError


def bumpy_cloud(seed=0, shape=(13, 14), hole=True):
    """A pinhole's view of a bumpy surface 0.5 m away, pixels about 1 mm apart."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    a, b, c = generator.uniform(0.3, 0.7, 3)
    depth = 0.5 + 0.003 * np.sin(a * rows + c) * np.cos(b * columns)
    depth += generator.normal(0, 2e-4, shape)
    slopes = np.stack([columns - shape[1] / 2, rows - shape[0] / 2], axis=2) / 500
    xyz = np.concatenate([slopes * depth[..., None], depth[..., None]], axis=2)
    valid = generator.random(shape) > 0.1
    if hole:
        valid[4:6, 5:9] = False
    xyz[~valid] = 0
    return xyz.astype(np.float32), valid


def reference(xyz, valid, normals, *, radius, max_nn, weighting):
    """Rusu et al. 2009, section III, one pair at a time in double precision."""
    pixels = [tuple(p) for p in np.argwhere(valid & (normals != 0).any(axis=2))]
    points = [np.asarray(xyz[p], np.float64) for p in pixels]
    directions = [np.asarray(normals[p], np.float64) for p in pixels]
    neighbours, simple = [], []
    for i, point in enumerate(points):
        distances = sorted(
            (float(np.linalg.norm(other - point)), j) for j, other in enumerate(points) if j != i
        )
        neighbours.append([(d, j) for d, j in distances[: max_nn - 1] if d <= radius])
        histogram = np.zeros((3, 11))
        for _, j in neighbours[i]:
            for row, (value, low, high) in enumerate(pair(points, directions, i, j)):
                share = (value - low) / (high - low)
                histogram[row, min(int(share * 11), 10)] += 1
        simple.append(100 * histogram / max(len(neighbours[i]), 1))
    out = np.zeros((*valid.shape, 33))
    for i, pixel in enumerate(pixels):
        total = np.zeros((3, 11))
        for d, j in neighbours[i]:
            if weighting == "paper":
                total += simple[j] / d / len(neighbours[i])
            else:
                total += simple[j] / d**2
        if weighting == "normalised" and neighbours[i]:
            total = 100 * total / total.sum(axis=1, keepdims=True)
        out[pixel] = (simple[i] + total).ravel()
    return out


def pair(points, directions, i, j):
    line = (points[j] - points[i]) / np.linalg.norm(points[j] - points[i])
    # The source is the point with the smaller angle between its normal and the line.
    if math.acos(abs(directions[i] @ line)) <= math.acos(abs(directions[j] @ line)):
        source, target = directions[i], directions[j]
    else:
        source, target, line = directions[j], directions[i], -line
    u = source
    v = np.cross(line, u)
    v /= np.linalg.norm(v)
    w = np.cross(u, v)
    yield float(v @ target), -1, 1
    yield float(u @ line), -1, 1
    yield math.atan2(w @ target, u @ target), -math.pi, math.pi


def rotation(seed):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


@pytest.mark.parametrize("weighting", ["paper", "normalised"])
@pytest.mark.parametrize(("radius", "max_nn"), [(0.0035, 1000), (1.0, 12), (0.003, 20)])
def test_the_features_are_those_of_the_formulas(radius, max_nn, weighting):
    xyz, valid = bumpy_cloud()
    normals = surface_normals(xyz, valid)
    ours = fpfh(xyz, valid, normals, radius_feature=radius, max_nn=max_nn, weighting=weighting)
    theirs = reference(xyz, valid, normals, radius=radius, max_nn=max_nn, weighting=weighting)
    assert ours.shape == (*valid.shape, 33) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_rotation_and_translation_change_nothing(seed):
    xyz, valid = bumpy_cloud(seed)
    normals = surface_normals(xyz, valid)
    before = fpfh(xyz, valid, normals, radius_feature=0.0035)
    turn = rotation(seed)
    moved = (xyz @ turn.T + [0.1, -0.2, 0.3]).astype(np.float32)
    after = fpfh(moved, valid, (normals @ turn.T).astype(np.float32), radius_feature=0.0035)
    # Rounding may move a pair at the edge of a bin, so a few points may differ, and little.
    differs = np.abs(after - before).max(axis=2) > 1e-2
    assert differs.mean() < 0.1
    assert np.abs(after - before).max() < 25


def test_scale_changes_nothing_where_the_radius_scales_along():
    xyz, valid = bumpy_cloud()
    normals = surface_normals(xyz, valid)
    before = fpfh(xyz, valid, normals, radius_feature=0.0035)
    after = fpfh(xyz * 8, valid, normals, radius_feature=0.028)  # a power of two rounds nothing
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_a_plane_fills_the_middle_bins_alone():
    rows, columns = np.mgrid[:12, :12].astype(np.float32)
    xyz = np.stack([columns * 1e-3, rows * 1e-3, np.full_like(rows, 0.5)], axis=2)
    valid = np.ones((12, 12), bool)
    feature = fpfh(xyz, valid, max_nn=20)
    expected = np.zeros(33)
    expected[[5, 16, 27]] = 200  # 100 % of its own pairs, 100 % of its neighbours'
    np.testing.assert_allclose(feature, np.broadcast_to(expected, feature.shape), atol=1e-3)


def test_the_angles_of_one_pair_fall_where_they_should():
    # Normals 60 degrees apart about the y axis, points side by side along x: v is +-y, so alpha
    # is 0; the source, nearer the line, leans back along it: phi = -sin 60; the other normal is
    # 60 degrees away within the plane of u and w.
    xyz = np.array([[[0, 0, 0], [1e-3, 0, 0]]], np.float32)
    lean = np.radians(60)
    normals = np.array([[[-np.sin(lean), 0, -np.cos(lean)], [0, 0, -1]]], np.float32)
    feature = fpfh(xyz, np.ones((1, 2), bool), normals)
    alpha, phi, theta = feature[0, 0].reshape(3, 11)
    assert alpha.argmax() == 5
    assert phi.argmax() == int((1 - np.sin(lean)) / 2 * 11)
    assert theta.argmax() == int((np.pi + lean) / (2 * np.pi) * 11)
    np.testing.assert_allclose(feature[0, 0], feature[0, 1])
    np.testing.assert_allclose(feature.reshape(2, 3, 11).sum(axis=2), 200, rtol=1e-5)


def test_each_angles_bins_add_up_to_the_points_and_its_neighbours_per_cent():
    xyz, valid = bumpy_cloud(2)
    normals = surface_normals(xyz, valid)
    sums = fpfh(xyz, valid, normals, max_nn=20).reshape(*valid.shape, 3, 11).sum(axis=3)
    described = valid & (normals != 0).any(axis=2)
    np.testing.assert_allclose(sums[described], 200, rtol=1e-5)


def test_invalid_pixels_get_zeros_and_say_nothing():
    xyz, valid = bumpy_cloud(1)
    normals = surface_normals(xyz, valid)
    clean = fpfh(xyz, valid, normals, max_nn=20)
    assert not clean[~valid].any()
    xyz[~valid] = 0.4  # values that nobody measured
    normals[~valid] = (0, 0, -1)
    np.testing.assert_array_equal(fpfh(xyz, valid, normals, max_nn=20), clean)


def test_points_without_a_normal_or_neighbours_get_zeros():
    xyz, valid = bumpy_cloud()
    normals = surface_normals(xyz, valid)
    normals[0, 0] = 0
    assert not fpfh(xyz, valid, normals)[0, 0].any()
    assert not fpfh(xyz, valid, normals, radius_feature=1e-6).any()
    assert not fpfh(xyz, np.zeros_like(valid)).any()
    single = np.zeros_like(valid)
    single[3, 3] = True
    assert not fpfh(xyz, single, np.full_like(xyz, 3**-0.5)).any()


def test_a_cloud_enlarged_by_nearest_neighbour_holds_its_points_twice_and_still_has_features():
    xyz, valid = bumpy_cloud()
    normals = surface_normals(xyz, valid)
    once = fpfh(xyz, valid, normals, radius_feature=0.0035, max_nn=10_000)
    doubled = [np.repeat(np.repeat(a, 2, axis=0), 2, axis=1) for a in (xyz, valid, normals)]
    twice = fpfh(*doubled, radius_feature=0.0035, max_nn=10_000)[::2, ::2]
    # Every neighbour counts four times, the copies of the point itself not at all.
    np.testing.assert_allclose(twice, once, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_normals_are_the_least_principal_axis_of_the_nearest_points(seed):
    xyz, valid = bumpy_cloud(seed)
    normals = estimate_normals(xyz, valid, radius=0.004, max_nn=15)
    points = xyz[valid].astype(np.float64)
    for point, normal in zip(points, normals[valid]):
        distance = np.linalg.norm(points - point, axis=1)
        near = points[[i for i in np.argsort(distance)[:15] if distance[i] <= 0.004]]
        axis = np.linalg.svd(near - near.mean(axis=0))[2][2]
        axis *= -np.sign(axis @ point)
        np.testing.assert_allclose(normal, axis, atol=1e-3)
    assert not normals[~valid].any()


def test_normals_need_three_points():
    xyz = np.array([[[0, 0, 0.5], [1e-3, 0, 0.5], [0.1, 0, 0.5]]], np.float32)
    assert not estimate_normals(xyz, np.ones((1, 3), bool), radius=0.01).any()


@pytest.mark.parametrize("settings", [{"radius_feature": 0.0}, {"max_nn": 1}])
def test_an_empty_neighbourhood_is_refused_in_a_sentence(settings):
    xyz, valid = bumpy_cloud()
    with pytest.raises(ConfigurationError, match="needs a radius above 0 and at least 2 points"):
        fpfh(xyz, valid, **settings)


def test_an_unknown_weighting_is_refused_in_a_sentence():
    with pytest.raises(ConfigurationError, match="it is 'normalised' or 'paper'"):
        fpfh(*bumpy_cloud(), weighting="cubic")


def test_a_neighbourhood_of_copies_alone_has_no_features():
    xyz, valid = bumpy_cloud()
    normals = surface_normals(xyz, valid)
    copies = [np.repeat(np.repeat(a, 4, axis=0), 4, axis=1) for a in (xyz, valid, normals)]
    assert not fpfh(*copies, max_nn=5).any()
