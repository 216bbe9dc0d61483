"""The distance from the camera tells points in metres from points in millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.detection.preparation.distance import (
    check_distance,
    check_metres,
    distance_range,
    median_distance,
)
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.errors import DataError


def plane(z, size=64):
    y, x = np.mgrid[:size, :size] / size - 0.5
    xyz = np.stack([x * z, y * z, np.full_like(x, z)], axis=2).astype(np.float32)
    xyz[20:40, 20:40, 2] -= 0.05 * z
    return xyz


@pytest.mark.parametrize("z", [0.003, 0.4, 12.0])
def test_metres_pass(z):
    check_metres(plane(z), "a part")
    sample_from_arrays(None, plane(z))


def test_millimetres_are_refused_however_low_the_part_is():
    with pytest.raises(DataError, match=r"line 7 are 4\d\d\S* away .* millimetres"):
        check_metres(plane(420.0), "line 7")
    profile = plane(0.2) * 1000  # of a profiler: heights of millimetres over a field of decimetres
    profile[..., 2] = 3.0
    with pytest.raises(DataError, match="millimetres"):
        sample_from_arrays(None, profile)


def test_missing_points_do_not_count():
    xyz = plane(0.4)
    xyz[:50] = 0
    assert median_distance(xyz) == pytest.approx(0.4, rel=0.06)
    assert np.isnan(median_distance(np.zeros((8, 8, 3), np.float32)))
    check_distance(np.zeros((8, 8, 3), np.float32), (0.4, 0.5), "a part")


def test_a_part_far_from_those_of_the_calibration_is_refused():
    parts = [
        prepare(sample_from_arrays(None, plane(z)), PreparationSettings(size=32))
        for z in (0.4, 0.5)
    ]
    calibrated = distance_range(parts)
    assert calibrated == (pytest.approx(0.4, rel=0.1), pytest.approx(0.5, rel=0.1))
    for z in (0.03, 0.45, 9.0):
        check_distance(plane(z), calibrated, "a part")
    for z in (0.01, 12.0):
        with pytest.raises(DataError, match="must be in metres"):
            check_distance(plane(z), calibrated, "a part")
    check_distance(plane(12.0), None, "a part")
