"""Evidence from logits, and the least that is accepted."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.diagnosis.decision import (
    combined_opinion,
    evidence_from_logits,
    support,
    weakest_accepted,
)
from chiasm.metrics.calibration import softmax

ONE = {"image": 1.0, "series": 1.0}


def test_evidence_is_likelihood_beyond_the_geometric_mean():
    logits = np.random.default_rng(0).standard_normal((50, 5)) * 3
    p = softmax(logits, temperature=2.0)
    mean = np.exp(np.log(p).mean(axis=1, keepdims=True))
    expected = np.maximum(p / mean - 1, 0)
    np.testing.assert_allclose(evidence_from_logits(logits, 2.0), expected, rtol=1e-9)
    shifted = evidence_from_logits(logits + 100, 2.0)
    np.testing.assert_allclose(shifted, expected, rtol=1e-9)


def test_equal_logits_are_no_evidence():
    opinion, _ = combined_opinion({"image": np.full((1, 5), 7.0)}, ONE)
    assert opinion.uncertainty.item() == 1
    assert support(opinion, np.full((1, 5), 0.2)).item() == 0


def test_modalities_that_agree_leave_less_uncertainty_than_either():
    logits = {"image": np.array([[3.0, 0, 0]]), "series": np.array([[2.0, 0, 1]])}
    joint, single = combined_opinion(logits, ONE)
    assert joint.uncertainty.item() < min(one.uncertainty.item() for one in single)


def test_certain_modalities_may_contradict_each_other_totally():
    logits = {"image": np.array([[1e6, 0, 0]]), "series": np.array([[0, 1e6, 0]])}
    joint, _ = combined_opinion(logits, ONE)
    np.testing.assert_allclose(joint.belief[0, :2], 0.5, atol=0.01)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_the_threshold_turns_at_most_its_share_of_right_ones_away(share: float):
    rng = np.random.default_rng(1)
    supports, right = rng.random(200), rng.random(200) < 0.8
    threshold = weakest_accepted(supports, right, share=share)
    assert (supports[right] < threshold).mean() <= share
    assert (supports[right] < threshold).mean() > share - 0.01
    assert weakest_accepted(supports, np.zeros(200, bool), share=share) == 0
