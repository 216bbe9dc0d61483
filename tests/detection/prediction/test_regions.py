"""Regions of known places, areas and heights, and against scikit-image's hysteresis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label

from chiasm.detection.decision import AlarmRule, frame_verdict
from chiasm.detection.prediction.regions import (
    MOST_REGIONS,
    find_regions,
    region_levels,
    region_numbers,
    with_regions,
)
from chiasm.samples import AnomalyMap, RGBDSample, Verdict

FOCAL, SIDE, DISTANCE = 500.0, 120, 0.5
RULE = AlarmRule([1.0, 2.0, 3.0], 0.25, None)  # typical 2, alarm above 3


def frame(*, tilt: float = 0.0, bump: float = 0.0) -> tuple[RGBDSample, tuple[float, ...]]:
    """A plane seen by a pinhole camera, with a raised square of 20 pixels; and the plane."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    rays = np.stack([(columns - 60) / FOCAL, (rows - 60) / FOCAL, np.ones((SIDE, SIDE))], axis=2)
    normal = np.array([0.0, np.sin(tilt), -np.cos(tilt)])
    offset = np.full((SIDE, SIDE), DISTANCE * np.cos(tilt))
    plane = (*normal, float(offset[0, 0]))
    offset[40:60, 30:50] -= bump
    depth = -offset / (rays @ normal)
    xyz = (rays * depth[..., None]).astype(np.float32)
    return RGBDSample(None, xyz, np.ones((SIDE, SIDE), bool)), plane


def anomaly_map(plane: tuple[float, ...] | None = None, *, high: float = 5.0) -> AnomalyMap:
    scores = np.full((SIDE, SIDE), 1.0, np.float32)
    scores[40:60, 30:50] = high
    return AnomalyMap(scores, np.ones((SIDE, SIDE), bool), high, plane=plane)


def verdict(found: AnomalyMap, *, defective: bool | None = True) -> Verdict:
    return Verdict("part", found.image_score, 0.25, defective, found)


@pytest.mark.parametrize("tilt", [0.0, 0.5])
@pytest.mark.parametrize("bump", [0.0, 0.004, -0.004])
def test_a_region_is_measured_in_the_metres_of_its_points(tilt: float, bump: float):
    sample, plane = frame(tilt=tilt, bump=bump)
    (region,) = with_regions(verdict(anomaly_map(plane)), sample, rule=RULE).regions
    assert region.box == (30, 40, 20, 20) and region.centroid == (39.5, 49.5)
    assert region.pixels == 400 and region.peak == 5
    # The corners of a quadrilateral on the raised plane, whose area two triangles give.
    corners = np.array([[29.5, 39.5], [49.5, 39.5], [49.5, 59.5], [29.5, 59.5]])
    rays = np.concatenate([(corners - 60) / FOCAL, np.ones((4, 1))], axis=1)
    points = rays * (-(plane[3] - bump) / (rays @ np.array(plane[:3])))[:, None]
    triangles = (
        (np.cross(points[1] - points[0], points[2] - points[0])),
        (np.cross(points[2] - points[0], points[3] - points[0])),
    )
    area = sum(np.linalg.norm(t) / 2 for t in triangles) * 1e6
    assert region.area_mm2 == pytest.approx(area, rel=0.02)
    assert region.height_mm == pytest.approx(1000 * bump, abs=0.01)
    assert region.relief_mm == pytest.approx(1000 * bump, abs=0.01)
    np.testing.assert_allclose(region.centroid_mm, points.mean(axis=0) * 1000, atol=0.6)


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_a_region_wider_than_its_dent_has_the_dents_depth(slope: float):
    sample, plane = frame(bump=-0.002)
    assert sample.xyz is not None
    found = anomaly_map(plane)
    found.scores[30:70, 20:60] = 3.5  # four times the dent's area
    found.scores[40:60, 30:50] = 5.0
    points = sample.xyz.copy()
    points[..., 2] -= slope * points[..., 0]  # a face that is not parallel to the support
    (region,) = with_regions(verdict(found), replace(sample, xyz=points), rule=RULE).regions
    assert region.pixels == 1600
    assert region.relief_mm == pytest.approx(-2, abs=0.1)
    # Beside the part on one side, its level is all that is known.
    found.foreground[:, 60:] = False
    (region,) = with_regions(verdict(found), sample, rule=RULE).regions
    assert region.relief_mm == pytest.approx(-2, abs=0.1)


def test_a_missing_point_is_never_measured_with_real_ones():
    sample, plane = frame(bump=0.004)
    whole = with_regions(verdict(anomaly_map(plane)), sample, rule=RULE).regions[0]
    xyz, valid = sample.xyz.copy(), sample.valid.copy()
    xyz[42:58:2, 30:50], valid[42:58:2, 30:50] = 0, False
    holes = replace(sample, xyz=xyz, valid=valid)
    region = with_regions(verdict(anomaly_map(plane)), holes, rule=RULE).regions[0]
    assert region.area_mm2 == pytest.approx(whole.area_mm2, rel=0.01)
    assert region.relief_mm == pytest.approx(whole.relief_mm, abs=0.01)
    np.testing.assert_allclose(region.centroid_mm, whole.centroid_mm, atol=0.7)
    xyz[40:60, 30:50], valid[40:60, 30:50] = 0, False
    nothing = replace(sample, xyz=xyz, valid=valid)
    region = with_regions(verdict(anomaly_map(plane)), nothing, rule=RULE).regions[0]
    assert (region.centroid_mm, region.area_mm2, region.relief_mm) == (None, None, None)


def test_without_3d_there_are_pixels_alone():
    colour = RGBDSample(np.zeros((SIDE, SIDE, 3), np.float32), None, np.ones((SIDE, SIDE), bool))
    (region,) = with_regions(verdict(anomaly_map()), colour, rule=RULE).regions
    assert region.pixels == 400
    assert {region.centroid_mm, region.area_mm2, region.height_mm, region.relief_mm} == {None}


@pytest.mark.parametrize("seed", range(4))
def test_regions_are_those_of_a_hysteresis(seed: int):
    scores = np.random.default_rng(seed).uniform(0, 4, size=(24, 30)).astype(np.float32)
    found = AnomalyMap(scores, np.ones(scores.shape, bool), 4.0)
    regions, numbers, count = find_regions(found, None, threshold=2.5, seed=3.7)
    above = label(scores > 2.5, connectivity=2)
    kept = np.unique(above[scores > 3.7])
    expected = np.isin(above, kept)
    assert ((numbers > 0) == expected).all() and count == len(kept) == len(regions)
    assert [region.peak for region in regions] == sorted((r.peak for r in regions), reverse=True)
    four = apply_hysteresis_threshold(scores, 2.5, 3.7)  # of pixels that share a side
    assert expected[four].all()
    for number, region in enumerate(regions, start=1):
        rows, columns = np.nonzero(numbers == number)
        left, top, width, height = region.box
        assert (columns.min(), rows.min()) == (left, top)
        assert (np.ptp(columns), np.ptp(rows)) == (width - 1, height - 1)
        assert region.centroid == pytest.approx((columns.mean(), rows.mean()))


def test_a_region_reaches_to_the_score_of_a_typical_part():
    assert region_levels(anomaly_map(), RULE) == (2.0, 3.0)


@pytest.mark.parametrize("high", [2.9, 1.5])
def test_an_alarm_that_no_pixel_explains_has_the_place_of_the_highest(high: float):
    """A rule that adds statistics can be above a threshold that no pixel reaches."""
    (region,) = with_regions(verdict(anomaly_map(high=high)), frame()[0], rule=RULE).regions
    assert region.peak == pytest.approx(high) and region.box[2] >= 20


@pytest.mark.parametrize("defective", [True, None, False])
def test_a_good_part_has_no_regions(defective: bool | None):
    said = with_regions(verdict(anomaly_map(), defective=defective), frame()[0], rule=RULE)
    assert bool(said.regions) is (defective is not False)
    assert (said.pixel_threshold is None) is (defective is False)
    assert np.count_nonzero(region_numbers(said)) == (0 if defective is False else 400)


def test_more_regions_than_can_be_listed_are_told():
    scores = np.zeros((SIDE, SIDE), np.float32)
    scores[::4, ::4] = 4 + np.arange(900).reshape(30, 30) / 1000
    found = AnomalyMap(scores, np.ones(scores.shape, bool), 5.0)
    said = with_regions(verdict(found), frame()[0], rule=RULE)
    assert len(said.regions) == MOST_REGIONS and "more than 50" in said.notes[0]
    assert region_numbers(said).max() == MOST_REGIONS
    assert min(region.peak for region in said.regions) > np.sort(scores.ravel())[-51]


def test_a_map_of_another_size_than_the_points_is_not_measured():
    small = RGBDSample(None, np.ones((8, 8, 3), np.float32), np.ones((8, 8), bool))
    (region,) = with_regions(verdict(anomaly_map()), small, rule=RULE).regions
    assert region.area_mm2 is None


def test_regions_of_several_parts_are_numbered_as_the_frame_lists_them():
    sample = frame()[0]
    parts = []
    for left, high in ((10, 5.0), (50, 7.0), (90, 6.0)):
        scores = np.zeros((SIDE, SIDE), np.float32)
        scores[20:30, left : left + 10] = high
        found = AnomalyMap(scores, scores > 0, high)
        parts.append(with_regions(verdict(found, defective=high != 6), sample, rule=RULE))
    whole = frame_verdict(parts, source="frame")
    numbers = region_numbers(whole)
    assert numbers.max() == len(whole.regions) == 2  # that of a good part is none
    for number, region in enumerate(whole.regions, start=1):
        left, top, width, height = region.box
        assert (numbers[top : top + height, left : left + width] == number).all()
        assert np.count_nonzero(numbers == number) == region.pixels
