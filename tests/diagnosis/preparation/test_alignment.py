"""Patterns turned to a phase of their own."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.diagnosis.preparation.relative import aligned_picture, aligned_series, phase_reference

PHASES = np.arange(32)


def bump(centre, width=3.0):
    away = (PHASES - centre + 16) % 32 - 16
    return np.exp(-0.5 * (away / width) ** 2)


PATTERNS = {
    "one half": bump(8),
    "both halves, one heavier": bump(8) + 0.8 * bump(24),
    "both halves, of other shapes": bump(8, 2) + 0.9 * bump(25, 4),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("turn", [1, 7, 16, 21, 31])
def test_a_rolled_pattern_has_a_rolled_reference(name, turn):
    before = phase_reference(PATTERNS[name])
    after = phase_reference(np.roll(PATTERNS[name], turn))
    assert abs((after - before - turn / 32 + 0.5) % 1 - 0.5) < 1e-9


def test_a_single_bump_is_its_own_reference_and_nothing_is_0():
    assert phase_reference(bump(8)) == pytest.approx(8 / 32, abs=1e-3)
    assert phase_reference(np.zeros(32)) == 0


@pytest.mark.parametrize("turn", [0, 4, 40, 100])
def test_series_that_differ_by_their_phase_become_the_same(turn):
    rng = np.random.default_rng(0)
    cycle = np.repeat(PATTERNS["both halves, one heavier"], 4)
    cells = rng.poisson(3 * np.tile(cycle, 60))[None].astype(np.float32)
    rolled = np.roll(cells, turn, axis=1)
    folded = [
        aligned_series(one, cycle=128, step=4).reshape(60, 128).sum(axis=0)
        for one in (cells, rolled)
    ]
    assert np.array_equal(*folded)


def test_a_series_shorter_than_a_cycle_stays():
    cells = np.ones((1, 100), np.float32)
    assert aligned_series(cells, cycle=128, step=4) is cells


@pytest.mark.parametrize("turn", [0, 5, 31])
def test_pictures_that_differ_by_their_phase_become_the_same(turn):
    weights = np.round(20 * PATTERNS["one half"])
    ink = np.random.default_rng(0).random((6, 32, 3)).astype(np.float32)
    assert np.array_equal(
        aligned_picture(ink, weights),
        aligned_picture(np.roll(ink, turn, axis=1), np.roll(weights, turn)),
    )
