"""Alarm threshold, p-value and verdict agree, and nothing is promised by too few scores."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.detection.decision import (
    AlarmRule,
    failed_verdict,
    percent,
    predict_each,
    verdict_on,
)
from chiasm.detection.preparation.prepare import PreparationSettings, paste, prepare
from chiasm.detection.scenes.maker import render_scene
from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.metrics.calibration import conformal_threshold, normals_needed
from chiasm.samples import RGBDSample, Verdict

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)
RATES = st.floats(0.02, 0.9)


CONFIDENCES = st.none() | st.sampled_from([0.5, 0.9])


@given(SCORES, SCORES, RATES, CONFIDENCES)
def test_a_part_is_defective_exactly_above_the_threshold(scores, normals, rate, confidence):
    rule = AlarmRule(normals, rate, confidence)
    p_values, defective = rule.decide(scores)
    expected = [(1 + sum(n >= s for n in normals)) / (len(normals) + 1) for s in scores]
    np.testing.assert_allclose(p_values, expected)
    assert (rule.threshold is None) == (len(normals) < normals_needed(rate, confidence))
    if rule.threshold is None:
        assert not defective.any()
    else:
        assert defective.tolist() == [score > rule.threshold for score in scores]
        assert rule.threshold == conformal_threshold(normals, rate, confidence)
    if confidence is None:
        assert np.array_equal(defective, p_values <= rate)
    else:
        assert (p_values[defective] <= rate).all()


@pytest.mark.parametrize("normals", [2, 99])
def test_a_rate_a_hair_below_a_p_value_decides_alike_in_both_ways(normals):
    rule = AlarmRule(list(range(normals)), 1 / (normals + 1) - 1e-12, None)
    _, defective = rule.decide([normals + 1.0])
    assert defective[0] == (rule.threshold is not None)


@given(SCORES, RATES, CONFIDENCES)
def test_displays_take_the_largest_score_where_no_threshold_is_promised(normals, rate, confidence):
    rule = AlarmRule(np.array(normals), rate, confidence)
    shown = max(normals) if rule.threshold is None else rule.threshold
    assert rule.display_threshold == shown


def test_without_calibration_there_is_no_threshold():
    classifier = AlarmRule((), math.nan, None)
    assert classifier.threshold is None
    assert AlarmRule((), 0.05, 0.9).display_threshold == 0
    with pytest.raises(SplitError):
        AlarmRule((), 0.05, None).decide([1.0])
    with pytest.raises(SplitError, match="needs at least 45"):
        AlarmRule((1.0,) * 44, 0.05, 0.9).require()
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        _ = AlarmRule((1.0,), 1.0, None).threshold
    with pytest.raises(DataError, match="NaN"):
        _ = AlarmRule((math.nan, 1.0), 0.5, None).threshold


@pytest.mark.parametrize(
    ("normals", "confidence", "folds", "words"),
    [
        (40, None, 0, "on average at most 5 %, with 90 % confidence at most 9.4 % (40 normals)"),
        (100, 0.9, 0, "with 90 % confidence at most 5 %, on average at most 2 % (100 normals)"),
        (18, None, 0, "18 calibration normals are too few, 19 are needed. Parts have a score"),
        (40, 0.95, 0, "with 95 % confidence: 40 calibration normals are too few, 59 are needed"),
        (40, None, 5, "on average about 5 % (40 normals in 5 folds); no bound"),
        (0, None, 0, "there are no calibration scores"),
    ],
)
def test_the_promise_says_the_average_and_the_bound(normals, confidence, folds, words):
    assert words in AlarmRule(list(range(normals)), 0.05, confidence, folds).promise


@given(st.integers(1, 200), st.floats(0.005, 0.3), CONFIDENCES)
def test_what_is_said_is_no_less_than_what_is_kept(normals, rate, confidence):
    rule = AlarmRule(list(range(normals)), rate, confidence)
    if rule.rank == 0:
        assert "Nothing is promised" in rule.promise
        return
    if confidence is not None:
        assert rule.confident_rate <= rate * (1 + 1e-6)
    said = [float(n) / 100 for n in re.findall(r"at most ([\d.]+) %", rule.promise)]
    assert max(said) >= rule.confident_rate - 1e-9
    assert min(said) >= min(rule.rank / (normals + 1), rate) * 0.995  # the rate has three digits


def test_scores_that_share_their_training_promise_nothing_with_a_confidence():
    with pytest.raises(ConfigurationError, match="not independent"):
        AlarmRule((1.0,) * 60, 0.05, 0.9, folds=5)
    assert math.isnan(AlarmRule((1.0,) * 60, 0.05, None, folds=5).confident_rate)


@pytest.mark.parametrize(("share", "text"), [(0.005, "0.5 %"), (0.12, "12 %"), (0.9999, "99.99 %")])
def test_shares_are_shown_in_percent(share, text):
    assert percent(share) == text


@pytest.fixture(scope="module")
def part():
    return prepare(render_scene("flange", "good", 0, 96), PreparationSettings(size=64))


@pytest.mark.parametrize(
    ("normals", "p_value", "defective"),
    [
        ((), math.nan, None),
        ((1.0, 2.0), 1 / 3, None),  # too few to promise a quarter: it is not called good
        ((1.0, 2.0, 3.0), 0.25, True),
        ((1.0, 2.0, 9.0), 0.5, False),
    ],
)
def test_a_verdict_keeps_score_p_value_and_decision_apart(part, normals, p_value, defective):
    crop = np.random.default_rng(0).random((64, 64), np.float32)
    verdict = verdict_on(part, crop, 5.0, rule=AlarmRule(normals, 0.25, None))
    assert (verdict.score, verdict.defective, verdict.source) == (5.0, defective, part.source)
    assert verdict.p_value == pytest.approx(p_value, nan_ok=True)
    np.testing.assert_array_equal(verdict.anomaly_map.scores, paste(crop, part.box))
    assert verdict.anomaly_map.image_score == 5.0


@pytest.mark.parametrize("score", [math.nan, math.inf])
@pytest.mark.parametrize("normals", [(), (1.0, 2.0, 3.0)])
def test_a_score_that_is_not_finite_is_refused(part, score, normals):
    crop = np.zeros((64, 64), np.float32)
    with pytest.raises(DataError, match="no finite score"):
        verdict_on(part, crop, score, rule=AlarmRule(normals, 0.25, None))


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
