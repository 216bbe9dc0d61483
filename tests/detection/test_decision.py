"""Alarm threshold, p-value and verdict agree, and nothing is promised by too few scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.detection.decision import (
    alarm_threshold,
    decide,
    display_threshold,
    failed_verdict,
    predict_each,
    verdict_on,
)
from chiasm.detection.preparation.prepare import PreparationSettings, paste, prepare
from chiasm.detection.scenes.maker import render_scene
from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.metrics.calibration import normals_needed
from chiasm.samples import RGBDSample, Verdict

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)
RATES = st.floats(0.02, 0.9)


@given(SCORES, SCORES, RATES)
def test_a_part_is_defective_exactly_above_the_threshold(scores, normals, rate):
    p_values, defective = decide(scores, normals, rate)
    expected = [(1 + sum(n >= s for n in normals)) / (len(normals) + 1) for s in scores]
    np.testing.assert_allclose(p_values, expected)
    threshold = alarm_threshold(normals, rate)
    assert (threshold is None) == (len(normals) < normals_needed(rate))
    if threshold is None:
        assert not defective.any()
    else:
        assert defective.tolist() == [score > threshold for score in scores]


@given(SCORES, RATES)
def test_displays_take_the_largest_score_where_no_threshold_is_promised(normals, rate):
    threshold = alarm_threshold(normals, rate)
    shown = display_threshold(np.array(normals), rate)
    assert shown == (max(normals) if threshold is None else threshold)


def test_without_calibration_there_is_no_threshold():
    assert alarm_threshold((), math.nan) is None  # a classifier's deployment
    assert display_threshold((), 0.05) == 0
    with pytest.raises(SplitError):
        decide([1.0], (), 0.05)
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        alarm_threshold([1.0], 1.0)


@pytest.fixture(scope="module")
def part():
    return prepare(render_scene("flange", "good", 0, 96), PreparationSettings(size=64))


@pytest.mark.parametrize(
    ("normals", "p_value", "defective"),
    [((), math.nan, None), ((1.0, 2.0, 3.0), 0.25, True), ((1.0, 2.0, 9.0), 0.5, False)],
)
def test_a_verdict_keeps_score_p_value_and_decision_apart(part, normals, p_value, defective):
    crop = np.random.default_rng(0).random((64, 64), np.float32)
    verdict = verdict_on(part, crop, 5.0, calibration_scores=normals, false_alarm_rate=0.25)
    assert (verdict.score, verdict.defective, verdict.source) == (5.0, defective, part.source)
    assert verdict.p_value == pytest.approx(p_value, nan_ok=True)
    np.testing.assert_array_equal(verdict.anomaly_map.scores, paste(crop, part.box))
    assert verdict.anomaly_map.image_score == 5.0


@pytest.mark.parametrize("score", [math.nan, math.inf])
@pytest.mark.parametrize("normals", [(), (1.0, 2.0, 3.0)])
def test_a_score_that_is_not_finite_is_refused(part, score, normals):
    crop = np.zeros((64, 64), np.float32)
    with pytest.raises(DataError, match="no finite score"):
        verdict_on(part, crop, score, calibration_scores=normals, false_alarm_rate=0.25)


def test_a_failed_sample_leaves_the_others_their_verdicts():
    def sample(name: str) -> RGBDSample:
        return RGBDSample(None, None, np.ones((1, 1), bool), source=name)

    def predict(sample: RGBDSample) -> Verdict:
        if sample.source == "dark":
            raise DataError("dark is too dark.")
        return Verdict(sample.source, 1.0, 0.5, False)

    items = [sample("a"), sample("dark"), ("lost", DataError("lost is gone.")), ("b", sample("b"))]
    verdicts = list(predict_each(predict, items))
    assert [v.source for v in verdicts] == ["a", "dark", "lost", "b"]
    assert [v.error for v in verdicts] == ["", "dark is too dark.", "lost is gone.", ""]
    assert [v.defective for v in verdicts] == [False, None, None, False]
    assert failed_verdict("x", DataError("no")).error == "no"
