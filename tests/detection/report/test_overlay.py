"""Heat says how far a place is beyond what good parts show, wherever a model's scores lie."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.detection.report.overlay import HeatScale, heat, heat_overlay
from chiasm.samples import AnomalyMap, RGBDSample

NORMALS = np.linspace(1.0, 3.0, 21)  # a typical good part scores 2
ALARM = 2.9


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_heat_begins_at_the_typical_good_part_wherever_scores_lie(offset: float):
    scale = HeatScale.of(NORMALS + offset, ALARM + offset)
    scores = np.array([0.0, 2.0, 2.9, 4.7, 9.0], np.float32) + np.float32(offset)
    np.testing.assert_allclose(scale.strength(scores), [0, 0, 1 / 3, 1, 1], atol=1e-5)
    _, opacity = heat(scores[None], scale=scale)
    assert opacity[0, 1] == 0 < opacity[0, 2] < opacity[0, 3]


@pytest.mark.parametrize("normals", [[], [5.0, 6.0]])
def test_without_normals_below_the_alarm_heat_begins_at_half_of_it(normals: list[float]):
    assert HeatScale.of(normals, 4.0) == HeatScale(2.0, 4.0)


def test_a_good_part_stays_grey_and_a_defect_is_coloured():
    rgb = np.full((8, 8, 3), 0.5, np.float32)
    sample = RGBDSample(source="x", rgb=rgb, xyz=None, valid=np.ones((8, 8), bool))
    scores = np.full((8, 8), 51.9, np.float32)
    scale = HeatScale.of(NORMALS + 50, ALARM + 50)

    def drawn(scores: np.ndarray) -> np.ndarray:
        inside = np.ones((8, 8), bool)
        shown = AnomalyMap(scores=scores, foreground=inside, image_score=1.0, source="x")
        return heat_overlay(shown, sample, scale=scale).astype(int)

    assert (drawn(scores) == 100).all()
    scores[2, 3] = 60
    picture = drawn(scores)
    assert np.ptp(picture[2, 3]) > 50 and (picture[4:] == 100).all()
