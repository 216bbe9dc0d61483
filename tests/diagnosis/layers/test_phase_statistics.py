"""Folded histograms and statistical operators against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from chiasm.diagnosis.layers.phase_statistics import (
    LEVELS,
    OPERATORS,
    PHASES,
    _correlation,
    _peaks,
    _shape,
    folded_histogram,
    statistical_operators,
)


def series(gain=1.0, roll=0, seed=0):
    rng = np.random.default_rng(seed)
    floor = rng.integers(10, 13, (60, 128)).astype(float)
    where = rng.random((60, 128)) < 0.1
    where[:, 64:] = False
    floor[where] += rng.uniform(20, 120, where.sum())
    return torch.tensor(np.roll(gain * floor, roll, axis=1).reshape(1, 1, -1)).float()


def test_the_histogram_is_that_of_a_loop():
    values = series()[0, 0].numpy().reshape(60, 128)
    pattern = folded_histogram(series(), cycle=128)[0].numpy()
    quiet = np.median(values.ravel()[::7])
    above = values - quiet
    deviation = np.median(np.abs(values.ravel()[::7] - quiet))
    bound = 5 * (1.4826 * deviation + 0.002 * above.max())
    mean = above[above > bound].mean()
    expected = np.zeros((PHASES, LEVELS))
    for row, column in np.argwhere(above > bound):
        level = int((np.log2(max(above[row, column] / mean, 1 / 8)) + 3) * 2)
        expected[column // 4, min(level, LEVELS - 1)] += 1
    np.testing.assert_allclose(pattern, expected / expected.sum(), atol=0.003)
    assert pattern.sum() == pytest.approx(1, rel=1e-5)


def test_gain_changes_nothing_and_a_roll_only_rolls():
    plain, loud = folded_histogram(series(), cycle=128), folded_histogram(series(gain=3), cycle=128)
    torch.testing.assert_close(plain, loud, atol=0.01, rtol=0)
    rolled = folded_histogram(series(roll=40), cycle=128)
    torch.testing.assert_close(rolled, plain.roll(10, dims=1), atol=0.01, rtol=0)


def test_a_recording_without_pulses_is_all_zeros_and_finite():
    quiet = torch.full((2, 1, 1280), 7.0)
    assert (folded_histogram(quiet, cycle=128) == 0).all()
    operators = statistical_operators(quiet, cycle=128)
    assert operators.shape == (2, OPERATORS)
    assert torch.isfinite(operators).all()


def test_skewness_and_kurtosis_are_scipys():
    weights = torch.tensor([[1.0, 4, 6, 2, 0, 3]])
    sample = np.repeat(np.arange(6), [1, 4, 6, 2, 0, 3])
    skewness, kurtosis = _shape(weights)
    assert skewness.item() == pytest.approx(stats.skew(sample), abs=1e-5)
    assert kurtosis.item() == pytest.approx(stats.kurtosis(sample), abs=1e-5)


def test_peaks_and_correlation():
    assert _peaks(torch.tensor([[0.0, 3, 1, 4, 4, 0], [0, 0, 0, 0, 0, 0]])).tolist() == [2, 0]
    a, b = torch.rand(3, 16), torch.rand(3, 16)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy())]
    np.testing.assert_allclose(_correlation(a, b), expected, atol=1e-5)
    assert _correlation(torch.ones(1, 4), a[:1, :4]).item() == 0


def test_halves_that_are_alike_are_told_from_one_half_alone():
    one = statistical_operators(series(), cycle=128)
    both = statistical_operators(series() + series(roll=64) - 11, cycle=128)
    # The seventh operator is the asymmetry of the numbers of pulses.
    assert one[0, 6] < 0.05
    assert both[0, 6] > 0.8
