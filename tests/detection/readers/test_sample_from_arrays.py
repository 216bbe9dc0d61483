"""A part as callers have it: missing points, depth with intrinsics, paths, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.detection.readers.camera import Intrinsics, back_project
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.errors import DataError
from chiasm.files.images import write_rgb, write_xyz

CAMERA = Intrinsics(fx=40.0, fy=42.0, cx=15.5, cy=11.5)
DEPTH = np.linspace(0.5, 0.6, 24 * 32).reshape(24, 32)
POINTS = back_project(DEPTH, CAMERA)
RGB = np.full((24, 32, 3), 128, np.uint8)


@pytest.mark.parametrize("mark", [np.nan, np.inf, -np.inf, 0.0])
def test_a_missing_point_is_missing_however_it_is_marked(mark: float):
    points = POINTS.copy()
    points[3, 4] = mark
    points[5, 6] = 0, 0, mark
    sample = sample_from_arrays(RGB, points)
    assert not sample.valid[3, 4] and not sample.valid[5, 6]
    assert sample.valid.sum() == sample.valid.size - 2
    assert (sample.xyz[~sample.valid] == 0).all() and np.isfinite(sample.xyz).all()
    np.testing.assert_array_equal(sample.xyz[sample.valid], POINTS[sample.valid])
    assert np.isnan(points[3, 4]).all() == np.isnan(mark)  # the caller's array is not changed


MATRIX = np.array([[40.0, 0, 15.5], [0, 42.0, 11.5], [0, 0, 1]])


@pytest.mark.parametrize(
    "intrinsics", [CAMERA, {"fx": 40, "fy": 42, "cx": 15.5, "cy": 11.5}, MATRIX, MATRIX.tolist()]
)
def test_depth_and_intrinsics_are_points(intrinsics: object):
    sample = sample_from_arrays(RGB, None, depth=DEPTH, intrinsics=intrinsics)
    np.testing.assert_allclose(sample.xyz, POINTS, atol=1e-7)


def test_counts_of_depth_need_their_unit():
    counts = np.rint(DEPTH * 1000).astype(np.uint16)
    counts[0, 0] = 0
    sample = sample_from_arrays(None, None, depth=counts, intrinsics=CAMERA, depth_unit=0.001)
    assert not sample.valid[0, 0]
    np.testing.assert_allclose(sample.xyz[1:, :, 2], DEPTH[1:], atol=5.1e-4)
    with pytest.raises(DataError, match="pass depth_unit, the metres of one count"):
        sample_from_arrays(None, None, depth=counts, intrinsics=CAMERA)


def test_paths_are_read(tmp_path: Path):
    write_rgb(tmp_path / "part.png", RGB / 255.0)
    write_xyz(tmp_path / "part.tiff", POINTS)
    cv2.imwrite(str(tmp_path / "depth.png"), np.rint(DEPTH * 1000).astype(np.uint16))
    by_path = sample_from_arrays(tmp_path / "part.png", str(tmp_path / "part.tiff"))
    by_array = sample_from_arrays(RGB, POINTS)
    np.testing.assert_array_equal(by_path.rgb, by_array.rgb)
    np.testing.assert_array_equal(by_path.xyz, by_array.xyz)
    from_depth = sample_from_arrays(
        RGB, None, depth=tmp_path / "depth.png", intrinsics=CAMERA, depth_unit=0.001
    )
    np.testing.assert_allclose(from_depth.xyz, POINTS, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rgb": None, "xyz": None}, "neither was given"),
        ({"rgb": RGB, "xyz": POINTS, "depth": DEPTH}, "Both xyz and depth"),
        ({"rgb": RGB, "xyz": None, "depth": DEPTH}, "needs the intrinsics"),
        ({"rgb": RGB, "xyz": POINTS, "intrinsics": CAMERA}, "belong to depth"),
        ({"rgb": RGB, "xyz": POINTS[:20]}, "32 x 24 pixels and xyz 32 x 20"),
        ({"rgb": RGB, "xyz": (POINTS * 1000).astype(np.int32)}, "in metres, but is int32"),
        ({"rgb": RGB, "xyz": POINTS * 1000}, "metres"),
        ({"rgb": None, "xyz": None, "depth": -DEPTH, "intrinsics": CAMERA}, "negative"),
        ({"rgb": None, "xyz": None, "depth": DEPTH, "intrinsics": np.ones((4, 5))}, "3 x 3 matrix"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(arguments: dict, message: str):
    with pytest.raises(DataError, match=message):
        sample_from_arrays(**arguments)


def test_what_is_taken_for_missing_in_arrays_is_noted():
    counts = np.rint(DEPTH * 1000).astype(np.uint16)
    counts[:3] = 65535
    sample = sample_from_arrays(RGB, None, depth=counts, intrinsics=CAMERA, depth_unit=0.001)
    assert not sample.valid[:3].any() and sample.valid[3:].all()
    assert "65535" in sample.notes[0]
    xyz = POINTS.copy()
    xyz[:3] = -1e6
    sample = sample_from_arrays(RGB, xyz)
    assert not sample.valid[:3].any() and "-1e+06" in sample.notes[0]
