"""The chance of a separation: exact on few samples, and for the strongest of several numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from chiasm.metrics.permutation import chance_of_separation
from chiasm.metrics.ranking import auroc


@pytest.mark.parametrize("seed", range(4))
def test_one_number_has_the_exact_p_value_of_mann_and_whitney(seed: int):
    rng = np.random.default_rng(seed)
    values, labels = rng.normal(size=11), np.array([0] * 7 + [1] * 4)
    expected = mannwhitneyu(values[labels == 1], values[labels == 0], method="exact").pvalue
    assert chance_of_separation([values], labels)[0] == pytest.approx(expected)


def test_of_several_numbers_it_is_that_of_the_strongest_by_a_loop():
    rng = np.random.default_rng(5)
    values = rng.integers(0, 4, (3, 8)).astype(float)  # with ties
    labels = np.array([0, 1, 0, 0, 1, 1, 0, 0])

    def strength(row, members):
        return abs(auroc(row, np.isin(np.arange(8), members)) - 0.5)

    strongest = [max(strength(row, m) for row in values) for m in combinations(range(8), 3)]
    for row, chance in zip(values, chance_of_separation(values, labels), strict=True):
        own = strength(row, np.flatnonzero(labels))
        assert chance == pytest.approx(np.mean(np.array(strongest) >= own - 1e-12))


def test_drawn_divisions_agree_with_the_exact_value():
    rng = np.random.default_rng(1)
    labels = np.array([0] * 12 + [1] * 9)
    values = rng.normal(size=21) + 0.8 * labels
    expected = mannwhitneyu(values[labels == 1], values[labels == 0], method="exact").pvalue
    assert chance_of_separation([values], labels)[0] == pytest.approx(expected, abs=0.03)


def test_constant_numbers_and_single_classes_tell_nothing():
    assert chance_of_separation([[1.0] * 6], [0, 0, 0, 1, 1, 1]).tolist() == [1.0]
    assert chance_of_separation([[1.0, 2.0]], [1, 1]).tolist() == [1.0]
