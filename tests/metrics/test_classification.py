"""Figures of decisions, against scikit-learn and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from chiasm.errors import DataError
from chiasm.metrics.bootstrap import bootstrap_weights, macro_f1_figure
from chiasm.metrics.calibration import (
    equal_mass_calibration_error,
    fit_temperature,
    log_loss,
    softmax,
)
from chiasm.metrics.classification import (
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    macro_f1,
    one_vs_rest_auroc,
)
from chiasm.metrics.open_set import (
    energy_score,
    fpr_at_tpr,
    knn_score,
    max_softmax_score,
)

decisions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60).map(
    lambda pairs: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
)


@given(decisions)
@settings(max_examples=60, deadline=None)
def test_figures_equal_scikit_learn(pair):
    truth, called = pair
    present = np.unique(truth)
    assert np.array_equal(
        confusion_matrix(truth, called, 4),
        reference.confusion_matrix(truth, called, labels=range(4)),
    )
    f1 = reference.f1_score(truth, called, labels=present, average="macro", zero_division=0)
    assert macro_f1(truth, called, 4) == pytest.approx(f1)
    scores = class_scores(confusion_matrix(truth, called, 4))
    precision = reference.precision_score(
        truth, called, labels=present, average=None, zero_division=0
    )
    assert scores.precision[present] == pytest.approx(precision)
    assert np.isnan(scores.f1[np.setdiff1d(range(4), present)]).all()
    recall = reference.recall_score(truth, called, labels=present, average="macro")
    assert balanced_accuracy(truth, called, 4) == pytest.approx(recall)


def some_logits(seed=0, n=200, k=4, signal=1.5):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    return rng.normal(size=(n, k)) + signal * np.eye(k)[truth], truth


def test_one_vs_rest_auroc_equals_scikit_learn():
    logits, truth = some_logits()
    ours = one_vs_rest_auroc(softmax(logits), truth)
    theirs = reference.roc_auc_score(truth, softmax(logits), multi_class="ovr", average=None)
    assert ours == pytest.approx(theirs)
    assert np.isnan(one_vs_rest_auroc(logits[truth < 3], truth[truth < 3])[3])


def test_draws_equal_repeating_the_recordings():
    logits, truth = some_logits(n=40)
    called = logits.argmax(axis=1)
    weights = bootstrap_weights(40, groups=np.arange(40) // 4, draws=20, seed=1)
    expected = [macro_f1(np.repeat(truth, w), np.repeat(called, w), 4) for w in weights]
    assert macro_f1_figure(truth, called, 4).draws(weights) == pytest.approx(expected)


def test_groups_make_the_interval_wider():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), 20)
    truth = np.repeat(rng.integers(0, 3, 30), 20)
    wrong = np.repeat(rng.random(30) < 0.3, 20)  # whole sessions go wrong together
    called = np.where(wrong, (truth + 1) % 3, truth)
    figure = macro_f1_figure(truth, called, 3)
    spread = [
        figure.draws(bootstrap_weights(600, groups=g, draws=300, seed=0)).std()
        for g in (groups, None)
    ]
    assert spread[0] > 2 * spread[1]


def test_temperature_lowers_the_loss_and_changes_no_decision():
    logits, truth = some_logits(signal=2.0)
    sharp = 5 * logits
    t = fit_temperature(sharp, truth)
    assert t > 2
    assert log_loss(sharp, truth, temperature=t) < log_loss(sharp, truth)
    assert log_loss(sharp, truth) == pytest.approx(reference.log_loss(truth, softmax(sharp)))
    assert np.array_equal(softmax(sharp, temperature=t).argmax(1), sharp.argmax(1))
    before = equal_mass_calibration_error(softmax(sharp), truth)
    assert equal_mass_calibration_error(softmax(sharp, temperature=t), truth) < before


def test_a_calibrated_forecast_has_no_calibration_error():
    p = np.array([[0.75, 0.25]] * 4)
    assert equal_mass_calibration_error(p, [0, 0, 0, 1], bins=1) == 0.0
    assert equal_mass_calibration_error(p, [0, 0, 0, 0], bins=1) == pytest.approx(0.25)


def test_what_was_not_learnt_scores_higher():
    rng = np.random.default_rng(0)
    known, new = rng.normal(size=(200, 8)) * 0.1 + 1, rng.normal(size=(50, 8)) - 1
    unlike = knn_score(np.concatenate([known[100:], new]), known[:100], neighbours=5)
    assert unlike[100:].min() > unlike[:100].max()
    assert fpr_at_tpr(unlike, np.arange(150) >= 100) == 0.0
    sure, unsure = np.array([[9.0, 0.0]]), np.array([[0.1, 0.0]])
    for score in (max_softmax_score, energy_score):
        assert score(unsure)[0] > score(sure)[0]
    assert fpr_at_tpr(np.arange(10), np.arange(10) % 2, recall=1.0) == 0.8


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: macro_f1([0, 1], [0, 5], 2), "5"),
        (lambda: macro_f1([0], [0, 1], 2), "1 labels"),
        (lambda: macro_f1([], [], 2), "empty"),
        (lambda: knn_score(np.eye(3), np.eye(3), neighbours=9), "9 neighbours"),
        (lambda: fpr_at_tpr([1.0], [1]), "known and unknown"),
    ],
)
def test_mistakes_are_sentences(call, word):
    with pytest.raises(DataError, match=word):
        call()
