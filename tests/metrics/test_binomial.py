"""Tails and quantiles against SciPy, and that they decide as its quantiles did."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import betaincinv, log_softmax
from scipy.stats import binom

from chiasm.metrics.binomial import beta_quantile, binomial_tail
from chiasm.metrics.calibration import alarm_rank, softmax


@pytest.mark.parametrize("trials", [1, 2, 5, 20, 99, 1000, 20000])
@pytest.mark.parametrize("chance", [0.01, 0.05, 0.3, 0.9])
def test_tails_are_those_of_scipy(trials: int, chance: float):
    expected = binom.sf(np.arange(trials), trials, chance)
    np.testing.assert_allclose(binomial_tail(trials, chance), expected, rtol=1e-7, atol=1e-250)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_what_is_certain_is_certain(chance: float):
    assert (binomial_tail(4, chance) == chance).all()


@pytest.mark.parametrize("trials", [1, 2, 20, 1000])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_quantiles_are_those_of_scipy(trials: int, share: float):
    for rank in {1, max(1, trials // 20), trials}:
        expected = betaincinv(rank, trials + 1 - rank, share)
        assert beta_quantile(trials, rank, share) == pytest.approx(expected, rel=1e-9)


def test_ranks_are_those_of_the_quantiles():
    for normals in range(1, 120):
        for rate, confidence in ((0.05, 0.9), (0.25, 0.9), (0.1, 0.5)):
            ranks = np.arange(1, int(rate * (normals + 1) + 1e-9) + 1)
            bounds = betaincinv(ranks, normals + 1 - ranks, confidence)
            expected = np.count_nonzero(bounds <= rate * (1 + 1e-9))
            assert alarm_rank(normals, rate, confidence) == expected


def test_probabilities_are_those_of_scipy_to_the_bit():
    logits = np.random.default_rng(0).normal(size=(500, 7)) * 20
    assert np.array_equal(softmax(logits), np.exp(log_softmax(logits, axis=-1)))
