"""Statistics that need no model: what changes them, and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.diagnosis.preparation.recording_statistics import (
    _channel,
    picture_statistics,
    series_statistics,
    statistics_parts,
)

CYCLES, CYCLE = 300, 128


def pulses(seed=0, phase=30, cycles=CYCLES, rate=0.4, channels=1):
    """Noise, and pulses around one phase of both half-cycles."""
    rng = np.random.default_rng(seed)
    series = rng.normal(20, 1, (channels, cycles, CYCLE))
    for channel in range(channels):
        where = rng.random((cycles, 2)) < rate
        for half in range(2):
            row = np.flatnonzero(where[:, half])
            column = (phase + 64 * half + rng.integers(-5, 6, len(row))) % CYCLE
            series[channel, row, column] += rng.lognormal(3 + half / 2, 0.3, len(row))
    return series.reshape(channels, -1).astype(np.float32)


def of(series, **options):
    return series_statistics(series, cycle=CYCLE, rounding=0.01, **options)


def test_gain_and_offset_change_nothing():
    series = pulses()
    louder = series_statistics(4 * series + 8, cycle=CYCLE, rounding=0.04)
    np.testing.assert_allclose(louder, of(series), atol=1e-3)


def test_the_conductor_that_gives_the_phase_changes_nothing():
    series = pulses().reshape(1, CYCLES, CYCLE)
    rolled = np.roll(series, 43, axis=2)  # a third of a cycle, each cycle in itself
    change = np.abs(of(rolled.reshape(1, -1)) - of(series.reshape(1, -1)))
    # Only what looks across the borders of cycles, or at every seventh value, can tell.
    assert np.median(change) < 1e-6 and change.max() < 0.2


def test_twice_as_long_a_recording_has_the_same_statistics():
    short, long = of(pulses(seed=1)), of(pulses(seed=1, cycles=2 * CYCLES))
    other = of(pulses(seed=2, rate=0.05))
    assert np.abs(short - long).mean() < 0.35 * np.abs(short - other).mean()


def test_rate_phase_and_rhythm_are_told_apart():
    same = np.linalg.norm(of(pulses(seed=3)) - of(pulses(seed=4)))
    rng = np.random.default_rng(0)
    anywhere = rng.normal(20, 1, (1, CYCLES * CYCLE)).astype(np.float32)
    anywhere[0, rng.choice(CYCLES * CYCLE, 240, replace=False)] += 25
    regular = rng.normal(20, 1, (1, CYCLES * CYCLE)).astype(np.float32)
    regular[0, ::157] += 25
    for other in (pulses(seed=3, rate=0.03), anywhere, regular):
        assert np.linalg.norm(of(pulses(seed=3)) - of(other)) > 2 * same
    assert np.linalg.norm(of(anywhere) - of(regular)) > 2 * same


def test_each_channel_is_described_by_itself():
    two = pulses(channels=2)
    rows = of(two).reshape(2, -1)
    for channel in range(2):
        np.testing.assert_allclose(rows[channel], of(two[channel : channel + 1]))


@pytest.mark.parametrize("mains", [True, False])
@pytest.mark.parametrize(
    "values", [np.zeros(4000), np.ones(50), np.arange(300.0), np.eye(20).ravel()]
)
def test_series_without_pulses_and_short_ones_have_finite_statistics(values, mains: bool):
    found = of(values[None].astype(np.float32), mains=mains)
    assert np.isfinite(found).all() and found.shape == of(pulses(), mains=mains).shape


def test_without_a_mains_no_phase_is_told():
    """What is told then does not change with the place in the cycle."""
    series = pulses().reshape(1, CYCLES, CYCLE)
    rolled = np.roll(series, 43, axis=2).reshape(1, -1)
    without, moved = of(pulses(), mains=False), of(rolled, mains=False)
    assert len(without) < len(of(pulses()))
    np.testing.assert_allclose(without, moved, atol=0.2)


def test_a_picture_that_is_rolled_is_the_same():
    picture = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)
    rolled = np.roll(picture, 11, axis=2)
    np.testing.assert_allclose(picture_statistics(rolled), picture_statistics(picture), atol=1e-9)
    assert np.abs(picture_statistics(picture[:, ::-1]) - picture_statistics(picture)).max() > 0.01


@pytest.mark.parametrize("mains", [True, False])
def test_parts_are_those_that_a_channel_is_described_by(mains: bool):
    cells = pulses().reshape(CYCLES, CYCLE) - 20
    widths = [len(part) for part in _channel(cells, 1.0, mains)]
    both = of(pulses(channels=2), mains=mains)
    parts = statistics_parts("series", len(both), mains=mains)
    np.testing.assert_array_equal(parts, np.tile(np.repeat(range(len(widths)), widths), 2))
    picture = picture_statistics(np.zeros((3, 32, 32), np.float32))
    assert np.bincount(statistics_parts("image", len(picture))).tolist() == [7] * 8
