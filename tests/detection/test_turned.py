"""Turned parts: what is measured turns with the picture, and nothing is invented."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.detection.preparation.geometry import GeometryScale, geometry_picture
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.rotation import rotated
from chiasm.detection.scenes.maker import render_scene


@pytest.fixture(scope="module")
def part():
    return prepare(render_scene("flange", "hole", 3, 128), PreparationSettings(size=96))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_those_of_the_array(part, quarters):
    after = rotated(part, 90 * quarters)
    for name in ("rgb", "height", "foreground", "valid", "mask"):
        expected = np.rot90(getattr(part, name), -quarters)  # clockwise
        np.testing.assert_allclose(getattr(after, name), expected, atol=1e-5)


def test_a_whole_turn_in_steps_keeps_normals_and_heights(part):
    after = part
    for _ in range(4):
        after = rotated(after, 90)
    np.testing.assert_allclose(after.normals, part.normals, atol=1e-5)
    np.testing.assert_allclose(after.xyz, part.xyz, atol=1e-5)
    np.testing.assert_allclose(after.plane, part.plane, atol=1e-6)


def test_slopes_turn_with_the_picture(part):
    scale = GeometryScale(height=0.02)
    before, after = geometry_picture(part, scale), geometry_picture(rotated(part, 90), scale)
    expected = np.rot90(before, -1)
    inside = np.rot90(part.valid, -1)  # elsewhere, of equally near neighbours either may be taken
    np.testing.assert_allclose(after[..., 0][inside], expected[..., 0][inside], atol=1e-4)
    # Slopes count to the right and up: what sloped to the right slopes down, up to the right.
    right, up = expected[..., 1] - 0.5, expected[..., 2] - 0.5
    away = np.abs(after[..., 1] - 0.5 - up)[inside], np.abs(after[..., 2] - 0.5 + right)[inside]
    assert np.quantile(away[0], 0.9) < 0.01
    assert np.quantile(away[1], 0.9) < 0.01


def test_turned_heights_lie_above_the_turned_plane(part):
    after = rotated(part, 37)
    a, b, c, d = after.plane
    height = after.xyz @ np.array([a, b, c]) + d
    np.testing.assert_allclose(height[after.valid], after.height[after.valid], atol=1e-5)
    measured = {round(float(h), 7) for h in part.height[part.valid]}
    assert all(round(float(h), 7) in measured for h in after.height[after.valid])
