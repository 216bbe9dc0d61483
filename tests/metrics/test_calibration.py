import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import brier_score_loss

from chiasm.errors import ChiasmError, ConfigurationError, DataError, SplitError
from chiasm.metrics.calibration import (
    alarm_rank,
    brier,
    confident_rate,
    conformal_p_value,
    conformal_threshold,
    normals_needed,
    rate_bound,
    rounded_up,
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


COUNTS, RATES, CONFIDENCES = st.integers(1, 300), st.floats(0.01, 0.6), st.floats(0.05, 0.99)


@QUICK
@given(COUNTS, RATES, CONFIDENCES)
def test_a_bound_is_the_quantile_of_the_beta_distribution(normals, rate, confidence):
    rank = alarm_rank(normals, rate)
    bound = confident_rate(normals, rate, confidence)
    if rank == 0:
        assert bound == 0  # no part alarms
        return
    assert bound == pytest.approx(stats.beta.ppf(confidence, rank, normals + 1 - rank))
    # The same by counting: the rate is at most the bound where k of n normals exceed it.
    assert stats.binom.sf(rank - 1, normals, bound) == pytest.approx(confidence)


@QUICK
@given(COUNTS, RATES, CONFIDENCES)
def test_a_confident_threshold_is_the_lowest_that_keeps_its_bound(normals, rate, confidence):
    rank = alarm_rank(normals, rate, confidence)
    ranks = np.arange(1, alarm_rank(normals, rate) + 1)
    # Kept with the confidence: k - 1 or fewer of n normals exceed the rate in at most the rest.
    kept = ranks[stats.binom.cdf(ranks - 1, normals, rate) <= 1 - confidence]
    assert rank == max(kept, default=0)
    scores = np.random.default_rng(normals).random(normals)
    if rank == 0:
        with pytest.raises(SplitError, match=rf"needs at least {normals_needed(rate, confidence)}"):
            conformal_threshold(scores, rate, confidence)
    else:
        threshold = conformal_threshold(scores, rate, confidence)
        assert np.count_nonzero(scores >= threshold) == rank
        assert threshold >= conformal_threshold(scores, rate)  # the average is kept as well


@QUICK
@given(RATES, st.none() | CONFIDENCES)
def test_as_many_normals_as_are_needed_promise_and_one_fewer_do_not(rate, confidence):
    needed = normals_needed(rate, confidence)
    assert alarm_rank(needed, rate, confidence) >= 1
    assert needed == 0 or alarm_rank(needed - 1, rate, confidence) == 0


@QUICK
@given(st.integers(1, 60), st.floats(0.001, 0.02), st.none() | CONFIDENCES)
def test_the_rate_that_a_refusal_names_is_accepted(normals, rate, confidence):
    scores = np.arange(normals)
    try:
        conformal_threshold(scores, rate, confidence)
    except SplitError as error:
        offered = float(re.search(r"a rate of at least ([\d.e-]+)\.$", str(error))[1])
        assert conformal_threshold(scores, offered, confidence) == normals - 1


@pytest.mark.parametrize("rate", [0.999999, 1 - 1e-12])
def test_a_rate_close_to_one_is_a_threshold_at_the_lowest_score(rate):
    assert conformal_threshold([3.0, 1.0, 2.0], rate) == 1.0


@pytest.mark.parametrize("detail", [np.inf, 200])
@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_one_calibration_in_ten_exceeds_its_bound_and_a_confident_threshold_keeps_the_rate(
    rate, detail
):
    # Scores are uniform, so that a threshold's rate on endlessly many fresh normals is known.
    rng = np.random.default_rng(0)
    normals, runs, confidence = 40 if rate == 0.05 else 60, 4000, 0.9
    bound, exceeding, broken = confident_rate(normals, rate), 0, 0
    confident = alarm_rank(normals, rate, confidence) > 0
    assert confident == (normals >= normals_needed(rate, confidence))
    for _ in range(runs):
        scores = rng.random(normals)
        if np.isfinite(detail):
            scores = np.floor(scores * detail) / detail  # ties

        def rate_above(threshold: float) -> float:
            return 1 - threshold - (0 if np.isinf(detail) else 1 / detail)

        exceeding += rate_above(conformal_threshold(scores, rate)) > bound
        if confident:
            broken += rate_above(conformal_threshold(scores, rate, confidence)) > rate
    four_errors = 4 * math.sqrt(0.1 * 0.9 / runs)
    assert exceeding / runs < 0.1 + four_errors
    assert broken / runs < 0.1 + four_errors
    if np.isinf(detail):
        assert exceeding / runs > 0.1 - four_errors


def test_the_alarms_of_fresh_normals_are_those_of_the_distribution():
    # What an evaluation sees: the counts of 300 fresh parts, each time after another calibration.
    rng = np.random.default_rng(1)
    normals, fresh, runs = 40, 300, 2000
    scores = rng.gumbel(size=(runs, normals + fresh))
    thresholds = [conformal_threshold(row[:normals], 0.05) for row in scores]
    alarms = (scores[:, normals:] > np.array(thresholds)[:, None]).sum(axis=1)
    rank = alarm_rank(normals, 0.05)
    counts = np.arange(fresh + 1)
    expected = stats.betabinom(fresh, rank, normals + 1 - rank).cdf(counts)
    seen = np.searchsorted(np.sort(alarms), counts, side="right") / runs
    assert np.abs(seen - expected).max() < 1.63 / math.sqrt(runs)  # Kolmogorov's, at 1 %


@pytest.mark.parametrize(("value", "digits", "expected"), [(0.0938, 2, 0.094), (0.1, 2, 0.1)])
def test_a_rounded_bound_is_no_lower(value, digits, expected):
    assert rounded_up(value, digits) == expected
    assert rate_bound(40, 0, 0.9) == 0


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
        (lambda: normals_needed(0.1, 1.0), ConfigurationError),
        (lambda: confident_rate(40, 0.05, 0.0), ConfigurationError),
        (lambda: alarm_rank(40, 0.05, 1.5), ConfigurationError),
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
