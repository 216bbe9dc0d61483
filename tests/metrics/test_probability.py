import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from chiasm.errors import DataError
from chiasm.metrics.calibration import (
    brier,
    equal_mass_calibration_error,
    fit_temperature,
    log_loss,
    softmax,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=50)


def _logits(seed, samples=80, classes=4, scale=3.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, samples)
    # Eighths: no two logits so near that dividing them makes them equal.
    logits = np.round(8 * scale * (rng.normal(size=(samples, classes)) + np.eye(classes)[truth]))
    return logits / 8, truth


@QUICK
@given(st.integers(0, 1000))
def test_loss_and_brier_equal_scikit_learn(seed):
    logits, truth = _logits(seed)
    stated = softmax(logits)
    assert stated.sum(axis=1) == pytest.approx(1.0)
    labels = np.arange(4)
    assert log_loss(logits, truth) == pytest.approx(
        reference.log_loss(truth, stated, labels=labels)
    )
    assert log_loss(np.log(stated), truth) == pytest.approx(log_loss(logits, truth))
    assert brier(np.clip(stated, 0, 1), truth) == pytest.approx(
        reference.brier_score_loss(truth, stated, labels=labels, scale_by_half=False)
    )


@QUICK
@given(st.integers(0, 1000), st.floats(0.05, 12.0))
def test_a_fitted_temperature_changes_no_guess_and_lowers_the_loss(seed, scale):
    logits, truth = _logits(seed, scale=scale)
    found = fit_temperature(logits, truth)
    assert np.array_equal(softmax(logits, temperature=found).argmax(1), logits.argmax(1))
    assert log_loss(logits, truth, temperature=found) <= log_loss(logits, truth) + 1e-9
    for other in (0.9 * found, 1.1 * found):
        if 0.05 <= other <= 20.0:
            assert log_loss(logits, truth, temperature=found) <= (
                log_loss(logits, truth, temperature=other) + 1e-9
            )


def test_the_temperature_that_was_applied_is_found():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 3))
    truth = (softmax(logits).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1).clip(0, 2)
    assert fit_temperature(4 * logits, truth) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("bins", [1, 15])
def test_bins_hold_equally_many(bins):
    logits, truth = _logits(0, samples=150)
    stated = softmax(logits + np.random.default_rng(0).normal(size=logits.shape))  # no ties
    order = np.argsort(stated.max(axis=1)).reshape(bins, -1)
    confidence, right = stated.max(axis=1)[order], (stated.argmax(axis=1) == truth)[order]
    expected = np.abs(confidence.mean(axis=1) - right.mean(axis=1)).mean()
    assert equal_mass_calibration_error(stated, truth, bins=bins) == pytest.approx(expected)


@QUICK
@given(st.integers(0, 1000))
def test_the_order_of_samples_has_no_say_without_ties(seed):
    rng = np.random.default_rng(seed)
    stated, truth = softmax(rng.normal(size=(50, 3))), rng.integers(0, 3, 50)
    order = rng.permutation(50)
    plain = equal_mass_calibration_error(stated, truth)
    assert equal_mass_calibration_error(stated[order], truth[order]) == pytest.approx(plain)
    assert 0.0 <= plain <= 1.0


@QUICK
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 60))
def test_the_order_of_samples_has_no_say_among_ties(seed, levels, samples):
    rng = np.random.default_rng(seed)
    stated = softmax(rng.integers(0, levels, (samples, 3)))
    truth, order = rng.integers(0, 3, samples), rng.permutation(samples)
    plain = equal_mass_calibration_error(stated, truth)
    assert equal_mass_calibration_error(stated[order], truth[order]) == plain


def test_a_constant_guess_that_is_right_as_often_as_it_says_has_no_error():
    truth = np.repeat([0, 1, 2, 3], [400, 200, 200, 200])
    stated = np.tile([0.4, 0.2, 0.2, 0.2], (1000, 1))
    assert equal_mass_calibration_error(stated, truth) == pytest.approx(0.0)


def test_a_sure_and_right_guess_has_no_error():
    truth = np.arange(40) % 4
    sure = 100.0 * np.eye(4)[truth]
    assert equal_mass_calibration_error(softmax(sure), truth) == pytest.approx(0.0)
    assert log_loss(sure, truth) == pytest.approx(0.0)
    assert brier(np.eye(4)[truth], truth) == 0.0


def test_large_logits_do_not_overflow():
    assert softmax([[1e4, 0.0], [-1e4, 0.0]]).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert log_loss([[0.0, 1e4]], [0]) == pytest.approx(1e4)


def test_bad_input_is_named():
    for logits, truth in (([[0.0, 1.0]], [0, 1]), ([0.0, 1.0], [0, 1]), (np.empty((0, 2)), [])):
        with pytest.raises(DataError, match=r"\.$"):
            log_loss(logits, truth)
