import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from chiasm.errors import DataError
from chiasm.metrics.ranking import auroc, average_precision, f1_max, flatten_pixels

QUICK = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def both_classes(draw):
    """Scores with ties, and labels that hold both classes."""
    size = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(-6, 6), min_size=size, max_size=size))
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    labels[0], labels[1] = 0, 1
    return np.array(scores, dtype=np.float64) / 4, np.array(labels)


@QUICK
@given(both_classes())
def test_figures_are_those_of_scikit_learn(case):
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    expected = average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected)


@QUICK
@given(both_classes())
def test_f1_max_is_the_best_over_all_thresholds_and_its_threshold_reaches_it(case):
    scores, labels = case
    best, threshold = f1_max(scores, labels)
    assert best == pytest.approx(max(f1_score(labels, scores >= t) for t in np.unique(scores)))
    assert best == pytest.approx(f1_score(labels, scores >= threshold))


@QUICK
@given(both_classes())
def test_only_the_order_of_the_scores_matters(case):
    scores, labels = case
    moved = np.exp(scores) + 7
    assert auroc(moved, labels) == auroc(scores, labels)
    assert average_precision(moved, labels) == average_precision(scores, labels)
    assert f1_max(moved, labels)[0] == f1_max(scores, labels)[0]


@QUICK
@given(both_classes())
def test_auroc_of_reversed_scores_or_classes_is_the_complement(case):
    scores, labels = case
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))
    assert auroc(scores, 1 - labels) == pytest.approx(1 - auroc(scores, labels))


def test_large_float32_input_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.random(200_000) < 0.01
    scores = (rng.normal(size=labels.size) + labels).astype(np.float32)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_has_no_auroc(label):
    assert np.isnan(auroc([0.1, 0.2], [label, label]))


def test_without_defectives_there_is_no_precision_and_no_f1():
    assert np.isnan(average_precision([0.1], [0]))
    assert np.isnan(f1_max([0.1], [0])).all()
    assert np.isnan(auroc([], []))


def test_infinite_scores_are_ranked():
    assert auroc([-np.inf, 0.0, np.inf], [0, 0, 1]) == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        ([0.1, np.nan], [0, 1], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [0, 2], "neither 0"),
        ([0.1, 0.2], [0], "one label per score"),
    ],
)
def test_bad_input_is_named(scores, labels, words):
    for figure in (auroc, average_precision, f1_max):
        with pytest.raises(DataError, match=words):
            figure(scores, labels)


def test_flattened_pixels_leave_out_background_but_never_a_defect():
    maps = [np.arange(4.0).reshape(2, 2), np.full((1, 2), 9.0)]
    masks = [np.array([[1, 0], [0, 0]]), np.array([[0, 0]])]
    foregrounds = [np.array([[0, 1], [0, 0]]), np.array([[0, 1]])]
    scores, labels = flatten_pixels(maps, masks, foregrounds)
    assert scores.tolist() == [0.0, 1.0, 9.0]
    assert labels.tolist() == [True, False, False]
    assert flatten_pixels(maps, masks)[0].size == 6
    with pytest.raises(DataError, match="Image 1"):
        flatten_pixels(maps, [masks[0], masks[0]])
    with pytest.raises(DataError, match="2 anomaly maps, 1 masks"):
        flatten_pixels(maps, masks[:1])
