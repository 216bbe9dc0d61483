"""What is measured of a part, on a scene that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.detection.check.part_measures import measure_part
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.samples import RGBDSample

SETTINGS = PreparationSettings(size=64, told_by="points")
PITCH = 0.5e-3  # metres from pixel to pixel on the block's top


def scene(
    *blocks: tuple[slice, slice], size: tuple[int, int] = (100, 120), brightness: float = 0.5
) -> RGBDSample:
    """Blocks of 10 mm on a plane at 0.5 m, seen straight from above, with a fine pattern."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    xyz = np.stack([columns * PITCH, rows * PITCH, np.full(size, 0.5)], axis=2)
    rgb = np.full((*size, 3), 0.2)
    for block in blocks:
        xyz[(*block, 2)] = 0.49
        rgb[block] = brightness * (0.8 + 0.4 * ((rows + columns) % 2))[block][..., None]
    valid = np.ones(size, bool)
    return RGBDSample(rgb.astype(np.float32), xyz.astype(np.float32), valid, source="part.png")


MIDDLE = (slice(30, 70), slice(40, 80))


def test_share_crop_pitch_and_distance_are_those_of_the_block():
    measured = measure_part(scene(MIDDLE), replace(SETTINGS, crop_fraction=0.5))
    assert measured.share == pytest.approx(1600 / 12000)
    assert measured.crop == 60
    assert measured.outside == pytest.approx(1 - 3600 / 12000)
    assert measured.pitch == pytest.approx(PITCH, rel=1e-3)
    assert measured.distance == pytest.approx(0.49)
    assert (measured.objects, measured.plane, measured.cut, measured.fault) == (1, True, False, "")
    assert measured.measured == 1 and measured.brightness == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(("second", "objects"), [(20, 2), (3, 1)])
def test_objects_are_counted_and_specks_are_not(second: int, objects: int):
    small = (slice(10, 10 + second), slice(90, 90 + second))
    assert measure_part(scene(MIDDLE, small), SETTINGS).objects == objects


def test_a_part_at_the_border_is_cut_off():
    assert measure_part(scene((slice(30, 70), slice(0, 40))), SETTINGS).cut


def test_an_empty_place_has_a_fault_and_raises_nothing():
    measured = measure_part(scene(), SETTINGS)
    assert "nothing rises" in measured.fault and measured.objects is None


def test_sharpness_falls_with_blur_and_not_with_exposure():
    sample = scene(MIDDLE)
    sharp = measure_part(sample, SETTINGS).sharpness
    darker = replace(sample, rgb=sample.rgb * np.float32(0.5))
    blurred = replace(sample, rgb=(sample.rgb + np.roll(sample.rgb, 1, 1)) / np.float32(2))
    assert measure_part(darker, SETTINGS).sharpness == pytest.approx(sharp, rel=1e-4)
    assert measure_part(blurred, SETTINGS).sharpness < 0.3 * sharp


def test_ends_of_the_range_are_counted_on_the_part_alone():
    sample = scene(MIDDLE)
    sample.rgb[30:40, 40:80] = 1
    sample.rgb[40:50, 40:80] = 0
    measured = measure_part(sample, SETTINGS)
    assert measured.saturated == pytest.approx(0.25) and measured.dark == pytest.approx(0.25)


def test_the_width_of_a_defect_is_that_of_its_largest_region():
    mask = np.zeros((100, 120), bool)
    mask[40:44, 50:59] = True
    mask[60, 60] = True
    sample = replace(scene(MIDDLE), mask=mask, label=1)
    assert measure_part(sample, SETTINGS).defect == pytest.approx(6)


def test_frames_without_points_or_colours_are_measured():
    sample = scene(MIDDLE)
    whole = PreparationSettings(remove_background=False)
    flat = measure_part(replace(sample, xyz=None), whole)
    assert flat.share == 1 and flat.distance is None and flat.objects is None
    assert measure_part(replace(sample, rgb=None), SETTINGS).sharpness is None
