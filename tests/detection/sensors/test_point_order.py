"""Points in another order than pixels are refused, and a profiler's are seen from above."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.detection.readers.camera import Intrinsics, back_project
from chiasm.detection.readers.range_image import RangeSettings, range_from_bytes
from chiasm.detection.sensors.point_order import check_order, seen_from_above, without_zero_depth
from chiasm.errors import DataError
from chiasm.samples import FloatArray

H, W = 48, 64
PITCH_X, PITCH_Y = 0.001, 0.0012
HEIGHTS = np.zeros((H, W))
HEIGHTS[12:30, 20:40] = 0.008


def camera_points() -> FloatArray:
    noise = np.random.default_rng(0).normal(0, 2e-4, (H, W))
    return back_project(0.6 - HEIGHTS + noise, Intrinsics(80, 80, 31.5, 23.5))


def profile(flip: int = 1) -> FloatArray:
    x, y = np.meshgrid(np.arange(W) * PITCH_X, flip * np.arange(H) * PITCH_Y)
    return np.stack([x + 0.4, y - 0.2, HEIGHTS], axis=2).astype(np.float32)


@pytest.mark.parametrize("kind", ["shuffled", "by columns", "sides exchanged"])
def test_another_order_than_row_by_row_is_refused(kind: str):
    points = camera_points()
    if kind == "shuffled":
        wrong = np.random.default_rng(1).permutation(points.reshape(-1, 3)).reshape(H, W, 3)
    elif kind == "by columns":
        wrong = points.transpose(1, 0, 2).reshape(H, W, 3)
    else:
        wrong = points.reshape(W, H, 3)
    check_order(points, "a.ply")
    check_order(profile(), "a.ply")
    with pytest.raises(DataError, match=r"a\.ply is organised as .* in another order"):
        check_order(wrong, "a.ply")


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("up", [True, False])
def test_heights_are_seen_from_above_whatever_their_axes(flip: int, up: bool):
    points = profile(flip)
    points[3, 5] = 0
    seen = seen_from_above(points, "a.tiff", up=up)
    assert seen is not None and not seen[3, 5].any()
    below = seen[..., 2][seen.any(axis=2)]
    relief = below.max() - seen[20, 30, 2] if up else seen[20, 30, 2] - below.min()
    assert relief == pytest.approx(0.008, abs=1e-6)
    steps = np.diff(seen[40, :, 0]), np.diff(seen[:, 50, 1])
    np.testing.assert_allclose(steps[0], PITCH_X, atol=1e-6)
    np.testing.assert_allclose(steps[1], PITCH_Y, atol=1e-6)
    # What a camera sees stays as it is, also what was turned already.
    assert seen_from_above(seen, "a.tiff") is None
    assert seen_from_above(camera_points(), "a.tiff") is None


def test_a_pixel_without_depth_may_keep_its_place():
    points, remarks = camera_points(), []
    points[:, :9, 2] = 0
    missing = without_zero_depth(points, ~points.any(axis=2), remarks)
    assert missing[:, :9].all() and not missing[:, 9:].any() and "z alone is 0" in remarks[0]
    heights, remarks = profile(), []
    heights[..., 2] += 0.002 * np.random.default_rng(0).random((H, W), np.float32)
    heights[:, :9, 2] = 0
    missing = without_zero_depth(heights, ~heights.any(axis=2), remarks)
    assert not missing.any() and "--missing 0" in remarks[0]


def test_depth_in_three_equal_channels_is_depth(tmp_path):
    depth = (0.6 - HEIGHTS).astype(np.float32)
    np.save(tmp_path / "a.npy", np.repeat(depth[..., None], 3, axis=2))
    settings = RangeSettings(camera=Intrinsics(80, 80, 31.5, 23.5))
    found = range_from_bytes((tmp_path / "a.npy").read_bytes(), "a.npy", settings)
    np.testing.assert_array_equal(found.xyz, back_project(depth, Intrinsics(80, 80, 31.5, 23.5)))
    assert "three channels are equal" in found.remarks[0]


def test_counts_at_no_usual_distance_are_doubted(tmp_path):
    counts = np.full((H, W), 5980, np.uint16)
    counts[5:9] = 6002
    np.save(tmp_path / "a.npy", counts)
    content, camera = (tmp_path / "a.npy").read_bytes(), Intrinsics(80, 80, 31.5, 23.5)
    with pytest.raises(DataError, match=r"5\.98 m away.*0\.0001: 0\.598 m"):
        range_from_bytes(content, "a.npy", RangeSettings(camera=camera, usual_count_m=0.001))
    given = range_from_bytes(content, "a.npy", RangeSettings(camera=camera, unit_m=0.001))
    assert any("about 5.98 m away" in remark for remark in given.remarks)
    right = range_from_bytes(content, "a.npy", RangeSettings(camera=camera, unit_m=0.0001))
    assert not right.remarks


@pytest.mark.parametrize(("marker", "share"), [(1000, 0.1), (2047, 0.02)])
def test_a_value_apart_from_all_others_is_doubted(tmp_path, marker: int, share: float):
    counts = np.rint(1000 * (0.6 - HEIGHTS)).astype(np.uint16)
    counts[np.random.default_rng(0).random(counts.shape) < share] = marker
    np.save(tmp_path / "a.npy", counts)
    settings = RangeSettings(camera=Intrinsics(80, 80, 31.5, 23.5), unit_m=0.001)
    found = range_from_bytes((tmp_path / "a.npy").read_bytes(), "a.npy", settings)
    assert any(f"name it (--missing {marker})" in remark for remark in found.remarks)
