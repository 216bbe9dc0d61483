import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from chiasm.errors import ChiasmError, ConfigurationError, DataError, SplitError
from chiasm.metrics.calibration import (
    brier,
    conformal_p_value,
    conformal_threshold,
    normals_needed,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=100)
SCORES = st.lists(st.integers(-5, 30), min_size=1, max_size=60)


@QUICK
@given(SCORES, SCORES)
def test_p_values_count_the_calibration_normals_at_or_above(scores, normals):
    expected = [(1 + sum(n >= s for n in normals)) / (1 + len(normals)) for s in scores]
    assert conformal_p_value(scores, normals).tolist() == pytest.approx(expected)


@QUICK
@given(SCORES, SCORES, st.integers(1, 99))
def test_an_alarm_by_threshold_is_an_alarm_by_p_value(scores, normals, percent):
    rate = percent / 100
    if len(normals) < math.ceil(100 / percent) - 1:
        with pytest.raises(SplitError):
            conformal_threshold(normals, rate)
        return
    alarms = np.array(scores) > conformal_threshold(normals, rate)
    assert np.array_equal(alarms, conformal_p_value(scores, normals) <= rate)


@pytest.mark.parametrize("detail", [np.inf, 4])
def test_normal_parts_raise_no_more_alarms_than_promised(detail):
    rng = np.random.default_rng(0)
    normals, rate, runs = 50, 0.1, 3000
    alarms = np.empty(runs)
    for run in range(runs):
        scores = rng.gumbel(size=normals + 20)
        if np.isfinite(detail):
            scores = np.round(scores * detail)  # ties
        threshold = conformal_threshold(scores[:normals], rate)
        alarms[run] = np.mean(scores[normals:] > threshold)
    error = alarms.std() / math.sqrt(runs)
    assert alarms.mean() <= rate + 3 * error
    if np.isinf(detail):
        assert alarms.mean() >= rate - 1 / (normals + 1) - 3 * error


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1)])
def test_too_few_normals_are_refused_with_the_number_needed(rate, needed):
    assert normals_needed(rate) == needed
    with pytest.raises(SplitError, match=f"needs at least {needed}. Hold out 1 more"):
        conformal_threshold(range(needed - 1), rate)
    assert conformal_threshold(range(needed), rate) == needed - 1


@pytest.mark.parametrize("probabilities", [np.linspace(0, 1, 37), np.full(37, 0.5)])
def test_the_brier_score_agrees_with_scikit_learn(probabilities):
    outcomes = np.random.default_rng(1).integers(0, 2, probabilities.size)
    assert brier(probabilities, outcomes) == pytest.approx(
        brier_score_loss(outcomes, probabilities)
    )


def test_class_probabilities_use_the_guess_and_sum_over_classes():
    stated = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    truth = np.array([0, 1])
    assert brier(stated, truth) == pytest.approx((0.09 + 0.04 + 0.01 + 0.01 + 0.49 + 0.36) / 2)


def test_a_sure_and_right_guess_has_no_error():
    assert brier([0.0, 1.0], [0, 1]) == 0.0
    assert np.isnan(brier([], []))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: conformal_p_value([1.0], []), SplitError),
        (lambda: conformal_p_value([np.nan], [1.0]), DataError),
        (lambda: conformal_threshold([np.nan] * 30, 0.1), DataError),
        (lambda: conformal_threshold([], 0.1), SplitError),
        (lambda: conformal_threshold([1.0], 1.0), ConfigurationError),
        (lambda: normals_needed(0), ConfigurationError),
        (lambda: brier([1.5], [1]), DataError),
        (lambda: brier([0.5], [2]), DataError),
        (lambda: brier([0.5], [0.5]), DataError),
        (lambda: brier([0.5], [1, 0]), DataError),
    ],
)
def test_bad_input_is_named(call, error):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, ChiasmError)
    assert str(caught.value).endswith(".")
