"""Thresholds that known defects choose."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.known_defects import best_f1, bounded_misses


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_has_a_better_f1(seed):
    rng = np.random.default_rng(seed)
    normals = np.round(rng.normal(0, 1, 20), 1)  # with ties
    defects = np.round(rng.normal(1, 1, 12), 1)
    known = best_f1(normals, defects)
    scores = np.concatenate([normals, defects])
    truth = np.arange(len(scores)) >= len(normals)
    everywhere = [f1_score(truth, scores > t) for t in [scores.min() - 1, *scores]]
    assert known.f1 == pytest.approx(max(everywhere), abs=1e-4)
    assert f1_score(truth, scores > known.threshold) == pytest.approx(known.f1, abs=1e-4)
    assert known.missed == (defects <= known.threshold).sum()
    assert known.threshold not in scores


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("count", [9, 10, 23])
def test_misses_of_defects_like_these_keep_the_rate(rate, count):
    rng = np.random.default_rng(0)
    draws = [
        (rng.normal(size=200) <= bounded_misses(rng.normal(size=count), rate).threshold).mean()
        for _ in range(400)
    ]
    error = np.std(draws) / len(draws) ** 0.5
    assert np.mean(draws) <= rate + 3 * error
    assert np.mean(draws) >= rate - 1 / (count + 1) - 3 * error  # and no stricter than it need be


def test_too_few_defects_name_the_rate_that_they_can_promise():
    with pytest.raises(ConfigurationError, match=r"needs 9.*ask for 0.112"):
        bounded_misses(range(8), 0.1)
    assert bounded_misses(range(8), 0.112).missed == 0
    assert bounded_misses(range(9), 0.1).missed == 0
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        bounded_misses(range(9), 1.0)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_scores_that_choose_nothing_are_refused(scores):
    with pytest.raises(DataError):
        best_f1([1.0], scores)
    with pytest.raises(DataError):
        bounded_misses(scores, 0.5)
