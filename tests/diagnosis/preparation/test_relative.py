"""Amplitudes relative to a recording's own pulses do not depend on its gain."""

from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.preparation.relative import (
    floor_deviation,
    folded_cycles,
    relative_picture,
    relative_series,
)
from chiasm.diagnosis.preparation.scales import (
    PictureScale,
    SeriesScale,
    estimate_picture_scale,
    estimate_scale,
    finished,
    inked,
    network_image,
    scaled,
)
from chiasm.diagnosis.simulator.image import Look, draw_prpd


def pulses(gain: float, *, count: int = 400, pedestal: float = 12.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    counts = pedestal + rng.normal(0, 1, (1, 12_800))
    places = rng.choice(12_800, count, replace=False)
    counts[0, places] += gain * rng.uniform(40, 80, count)
    return np.clip(counts, 0, 255)


def test_a_pulse_counts_once_in_the_two_levels_about_it() -> None:
    above = np.zeros((1, 1000), np.float32)
    above[0, 10::100] = 8.0
    cells = relative_series(above, floor_deviation(above, 0.01))
    # The mean pulse itself lies half-way between the second and the third level.
    assert cells[0, 8:12].tolist() == [0, 0.5, 0.5, 0]
    assert cells.sum() == pytest.approx(10)


def test_larger_pulses_count_at_higher_levels() -> None:
    above = np.zeros((1, 4000), np.float32)
    above[0, ::8], above[0, 4::400] = 1.0, 100.0
    cells = relative_series(above, floor_deviation(above, 0.01)).reshape(-1, 4)
    sizes = above.reshape(-1, 4).max(axis=1)
    assert np.all(cells[sizes == 100.0] == [0, 0, 0, 1])
    assert np.all(cells[sizes == 1.0].argmax(axis=1) <= 1)
    assert not cells[sizes == 0].any()


def test_what_does_not_fill_a_group_is_left_out() -> None:
    above = np.full((1, 103), 0.0, np.float32)
    above[0, [50, 102]] = 5.0
    cells = relative_series(above, floor_deviation(above, 0.01))
    assert cells.shape == (1, 103)
    assert cells.sum() == pytest.approx(1)


@pytest.mark.parametrize("gain", [0.5, 2.5])
@pytest.mark.parametrize("pedestal", [5.0, 40.0])
def test_gain_and_pedestal_do_not_matter(gain: float, pedestal: float) -> None:
    scale = SeriesScale(full=100.0, spread=1.0, relative=True)
    one = finished(scaled(pulses(1.0), scale), scale)
    other = finished(scaled(pulses(gain, pedestal=pedestal), scale), scale)
    assert np.abs(one - other).max() < 0.15
    assert np.abs(one - other).mean() < 0.01


def test_channels_have_their_own_mean() -> None:
    both = np.concatenate([pulses(1.0), pulses(3.0)]) - 12
    level = relative_series(both, floor_deviation(both, 0.5))
    assert level[0].mean() == pytest.approx(level[1].mean(), abs=0.01)


def test_noise_alone_has_no_pulses() -> None:
    floor = np.random.default_rng(0).normal(0, 3, (1, 12_800)).astype(np.float32)
    assert not relative_series(floor, floor_deviation(floor, 0.5)).any()


def test_the_scale_of_training_recordings_gives_a_deviation_of_one() -> None:
    series = [pulses(g) for g in (0.5, 1.0, 2.0)]
    scale = estimate_scale(series, standardised=True, relative=True)
    assert scale.relative
    values = [finished(scaled(one, scale), scale) for one in series]
    assert np.concatenate(values).std() == pytest.approx(1, abs=0.3)


def held(height: int) -> np.ndarray:
    """Counts of 200 cycles: a floor around 10, pulses of one height at 45 to 90 degrees."""
    counts = 8 + np.random.default_rng(1).integers(0, 6, (200, 128))
    counts[::2, 16:32] += height
    return counts.astype(np.uint8)


def mean_height(ink: np.ndarray) -> float:
    dots = ink[:230, 32:64].max(axis=2) > 0.45
    return float((dots.sum(axis=1) * (255 - np.arange(230))).sum() / dots.sum())


def test_pulses_of_any_height_are_drawn_at_one() -> None:
    raw, scale = PictureScale(spread=1.0), PictureScale(spread=1.0, relative=True)
    pictures = [draw_prpd(held(h)).astype(np.float32) / 255 for h in (50, 100, 180)]
    before = [mean_height(inked(p, 256, raw)) for p in pictures]
    after = [mean_height(inked(p, 256, scale)) for p in pictures]
    assert max(before) > 2 * min(before)
    assert max(after) < 1.1 * min(after)
    assert estimate_picture_scale(pictures, 256, relative=True).relative


def test_dots_do_not_depend_on_the_colours_that_an_instrument_has() -> None:
    scale = PictureScale(spread=1.0, relative=True, dots=True)
    looks = [
        Look(palette=palette, dark=dark, sine=False, grid=False)
        for palette, dark in (("jet", False), ("turbo", True), ("plasma", True))
    ]
    made = [
        inked(draw_prpd(held(100), look).astype(np.float32) / 255, 256, scale) for look in looks
    ]
    assert set(np.unique(made[0])) == {0.0, 1.0}
    assert np.ptp(made[0], axis=2).max() == 0
    for other in made[1:]:
        assert (made[0] != other).mean() < 0.02


def test_a_picture_without_dots_stays() -> None:
    empty = np.zeros((64, 64, 3), np.float32)
    assert np.array_equal(relative_picture(empty), empty)


def test_phase_stays_where_it_is() -> None:
    picture = draw_prpd(held(60)).astype(np.float32) / 255
    raw = inked(picture, 256, PictureScale(spread=1.0))
    moved = relative_picture(raw)
    assert moved.shape == raw.shape
    columns = (moved[:200].max(axis=2) > 0.45).any(axis=0)
    assert columns[34:62].all() and not columns[70:].any()


def test_folded_cycles_add_up_and_keep_their_phase() -> None:
    cells = np.random.default_rng(0).poisson(0.3, (2, 7 * 16)).astype(np.float32)
    made = np.expm1(folded_cycles(cells, cycle=16, fold=3))
    assert made.shape == (2, 2 * 16)  # the seventh cycle is left over
    for channel in range(2):
        for run in range(2):
            for phase in range(16):
                cycles = range(3 * run, 3 * run + 3)
                expected = sum(cells[channel, 16 * cycle + phase] for cycle in cycles)
                assert made[channel, 16 * run + phase] == pytest.approx(expected, abs=1e-5)


def test_a_folded_series_is_shorter_and_its_scale_is_of_sums() -> None:
    some = [pulses(1.0, count=count) for count in (300, 500)]
    given = {"standardised": True, "relative": True, "cycle": 128}
    scale = estimate_scale(some, fold=10, **given)
    made = [finished(scaled(one, scale), scale) for one in some]
    assert all(one.shape == (1, 1_280) for one in made)
    assert np.concatenate(made).std() == pytest.approx(1, rel=1e-3)
    unfolded = finished(scaled(some[0], scale), replace(scale, fold=1))
    assert unfolded.shape == (1, 12_800)
    # What is folded is what was there, on a logarithmic scale.
    counts = (unfolded * scale.spread).reshape(-1, 10, 128).sum(axis=1)
    np.testing.assert_allclose(np.expm1(made[0] * scale.spread).reshape(-1, 128), counts, atol=1e-4)


def test_phase_may_be_left_where_cycles_are_folded() -> None:
    counts = np.random.default_rng(0).normal(12, 1, (1, 12_800))
    counts[0, 16::128] = 80.0  # one pulse a cycle, always at the same phase
    later = np.roll(counts, 32)
    free = SeriesScale(full=100.0, spread=1.0, relative=True, cycle=128, aligned=False, fold=2)
    for scale, moved in ((free, 32), (replace(free, aligned=True), 0)):
        one, other = (finished(scaled(c, scale), scale) for c in (counts, later))
        assert one.shape == other.shape == (1, 6_400)
        places = [c.reshape(-1, 32, 4).sum(axis=(0, 2)).argmax() * 4 for c in (one, other)]
        assert places[1] - places[0] == moved


def test_a_short_series_is_folded_less_and_counts_as_much() -> None:
    cells = np.tile(np.eye(16, dtype=np.float32)[3], 6)[None]  # one pulse a cycle, six cycles
    for fold, least, runs in ((3, 2, 2), (6, 1, 1), (10, 2, 2), (10, 6, 6)):
        made = np.expm1(folded_cycles(cells, cycle=16, fold=fold, least=least)).reshape(runs, 16)
        np.testing.assert_allclose(made.sum(axis=1), fold, rtol=1e-5)
        assert np.all(made.argmax(axis=1) == 3)


def test_dots_are_found_before_a_picture_is_made_small() -> None:
    picture = draw_prpd(held(100)).astype(np.float32) / 255
    fine = PictureScale(spread=1.0, relative=True, dots=True, side=128)
    ink = inked(picture, 32, fine)
    small = network_image(ink, 32, fine)
    assert ink.shape == (128, 128, 3) and small.shape == (3, 32, 32)
    shares = ink[..., 0].reshape(32, 4, 32, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(small[0], shares, atol=1e-6)
    scale = estimate_picture_scale([picture], 32, relative=True, dots=True, side=128)
    made = network_image(inked(picture, 32, scale), 32, scale)
    assert np.square(made).mean() == pytest.approx(1, rel=1e-4)
