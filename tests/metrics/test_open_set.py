import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_curve

from chiasm.errors import DataError
from chiasm.metrics.open_set import (
    energy_score,
    fpr_at_tpr,
    knn_score,
    max_softmax_score,
)
from chiasm.metrics.ranking import auroc

QUICK = settings(derandomize=True, deadline=None, max_examples=60)
SCORED = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: len({new for _, new in pairs}) == 2
)


@QUICK
@given(SCORED)
def test_false_alarms_are_those_of_scikit_learns_curve(pairs):
    scores, unseen = np.array(pairs).T
    alarms, recall, _ = roc_curve(unseen, scores, drop_intermediate=False)
    expected = alarms[np.argmax(recall >= 0.95)]
    assert fpr_at_tpr(scores, unseen) == pytest.approx(expected)


@QUICK
@given(st.integers(0, 1000), st.integers(1, 6))
def test_neighbours_are_those_of_all_distances(seed, neighbours):
    rng = np.random.default_rng(seed)
    reference, asked = rng.normal(size=(12, 5)), rng.normal(size=(7, 5))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (asked, reference)]
    expected = np.sort(cdist(*unit), axis=1)[:, neighbours - 1]
    found = knn_score(asked, reference, neighbours=neighbours)
    assert found == pytest.approx(expected)
    mixed = knn_score(3.0 * asked, rng.permutation(reference), neighbours=neighbours)
    assert mixed == pytest.approx(expected)


def test_a_learnt_embedding_is_its_own_nearest():
    reference = np.random.default_rng(0).normal(size=(20, 4))
    assert knn_score(reference, reference, neighbours=1) == pytest.approx(0.0, abs=1e-7)


@QUICK
@given(st.integers(0, 1000), st.floats(-5.0, 5.0))
def test_an_offset_counts_for_the_energy_only(seed, offset):
    logits = np.random.default_rng(seed).normal(size=(9, 4))
    assert max_softmax_score(logits + offset) == pytest.approx(max_softmax_score(logits))
    assert energy_score(logits + offset) == pytest.approx(energy_score(logits) - offset)
    assert np.all(energy_score(logits) <= -logits.max(axis=1))
    assert np.all((max_softmax_score(logits) >= 0) & (max_softmax_score(logits) <= 0.75 + 1e-9))


def test_figures_by_hand():
    assert energy_score([[0.0, 0.0]], temperature=2.0) == pytest.approx(-2 * np.log(2))
    assert max_softmax_score([[0.0, 0.0, 0.0]]) == pytest.approx(2 / 3)
    scores, unseen = [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]
    assert (auroc(scores, unseen), fpr_at_tpr(scores, unseen)) == (1.0, 0.0)
    assert fpr_at_tpr(np.zeros(4), unseen) == 1.0


@pytest.mark.parametrize("neighbours", [0, 4])
def test_impossible_neighbours_are_named(neighbours):
    with pytest.raises(DataError, match=f"{neighbours} neighbours cannot"):
        knn_score(np.eye(3), np.eye(3), neighbours=neighbours)


@pytest.mark.parametrize("unseen", [[0, 0], [1, 1]])
def test_one_kind_alone_has_no_false_alarm_rate(unseen):
    with pytest.raises(DataError, match="known and unknown"):
        fpr_at_tpr([0.1, 0.2], unseen)
