"""Views keep what makes the class: phase, polarity, and picture and series together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.augmentation.views import (
    SharedChange,
    ViewSettings,
    drop_modality,
    image_view,
    noise,
    series_view,
    shared_change,
    strong_views,
    view_rng,
)
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.scales import (
    SeriesScale,
    estimate_scale,
    finished,
    ground_colour,
    sized,
    window_length,
    windows,
)
from chiasm.errors import DataError

BINS, CYCLES, SIDE = 128, 60, 256
PLAIN = {
    "gain_sigma": 0.0,
    "image_noise": 0.0,
    "dots": (0.0, 0.0),
    "brightness": 0.0,
    "series_noise": 0.0,
    "masks": 0,
    "pulses": 0.0,
}
SCALE = SeriesScale(full=100.0, high=80.0)


def view_of(counts, change, settings, rng, *, segment=BINS, seconds=None):
    form = RecordingForm(
        image_size=SIDE,
        channels=1,
        samples_per_cycle=BINS,
        segment=segment,
        series=SCALE,
        seconds=seconds,
    )
    return series_view(counts, change, settings, rng, form=form, frequency=60.0)


def recording(at_deg: float = 90.0):
    """Dots in one column, pulses in one phase bin."""
    image = np.ones((SIDE, SIDE, 3), np.float32)
    image[100:140, round(at_deg / 360 * SIDE)] = (0, 0, 1)
    counts = np.full((1, CYCLES * BINS), 20, np.uint8)
    counts[0, round(at_deg / 360 * BINS) :: BINS] = 100
    return image, counts


def test_a_shift_is_small_and_never_turns_polarity():
    shifts = [shared_change(ViewSettings(), view_rng(0, 0, i, 0)).shift_deg for i in range(2000)]
    assert max(map(abs, shifts)) <= 4
    assert 1.5 < np.std(shifts) < 2.5
    assert abs(np.mean(shifts)) < 0.2


def test_strong_views_are_no_freer_in_phase():
    usual = ViewSettings()
    strong = strong_views(usual)
    assert strong.gain_sigma > usual.gain_sigma
    for index in range(50):
        one, other = (shared_change(s, view_rng(0, 0, index, 0)) for s in (usual, strong))
        assert one.shift_deg == other.shift_deg


def test_recordings_of_unknown_phase_are_rolled_by_any_angle():
    settings = ViewSettings(phase_unknown=True)
    shifts = [shared_change(settings, view_rng(0, 0, i, 0)).shift_deg for i in range(500)]
    assert min(shifts) < -150
    assert max(shifts) > 150


@pytest.mark.parametrize("shift", [-4.0, -2.9, 0.0, 1.5, 4.0])
def test_picture_and_series_are_rolled_together(shift: float):
    image, counts = recording()
    settings = ViewSettings(**PLAIN)
    rng = view_rng(0, 0, 0, 0)
    rolled = image_view(image, SharedChange(shift), settings, rng)
    column = np.flatnonzero((rolled[120] != 1).any(axis=1))
    assert column.tolist() == [SIDE // 4 + round(shift / 360 * SIDE)]
    series = view_of(counts, SharedChange(shift), settings, rng)
    assert series.shape == counts.shape
    bins = np.unique(np.flatnonzero(series[0] == 1) % BINS)
    assert bins.tolist() == [BINS // 4 + round(shift / 360 * BINS)]
    # One bin is 2.8 degrees: the two agree up to that.
    assert abs((column[0] - SIDE // 4) / SIDE - (bins[0] - BINS // 4) / BINS) * 360 <= 1.5


def test_a_short_view_is_a_run_of_whole_cycles_that_may_go_round_the_end():
    counts = np.repeat(np.arange(CYCLES, dtype=np.uint8), BINS)[None]
    settings = ViewSettings(**PLAIN)
    begins = set()
    for index in range(200):
        rng = view_rng(0, 0, index, 0)
        series = view_of(counts, SharedChange(), settings, rng, segment=256, seconds=0.5)
        assert series.shape == (1, 30 * BINS)
        cycles = np.rint(series.reshape(30, BINS) * SCALE.full).astype(int)
        assert (cycles == cycles[:, :1]).all()
        assert (np.diff(cycles[:, 0]) % CYCLES == 1).all()
        begins.add(int(cycles[0, 0]))
    assert len(begins) > 50


def test_the_same_key_gives_the_same_view_and_another_epoch_another():
    image, counts = recording()
    settings = ViewSettings()

    def made(epoch: int):
        rng = view_rng(7, epoch, 3, 1)
        change = shared_change(settings, rng)
        picture = image_view(image, change, settings, rng)
        return picture, view_of(counts, change, settings, rng, seconds=0.5)

    for one, same, other in zip(made(0), made(0), made(1)):
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


def test_a_view_stays_in_range_and_leaves_the_recording_alone():
    image, counts = recording()
    before = image.copy(), counts.copy()
    for index in range(30):
        rng = view_rng(0, 0, index, 0)
        change = shared_change(ViewSettings(), rng)
        seen = image_view(image, change, ViewSettings(), rng)
        series = view_of(counts, change, ViewSettings(), rng)
        assert seen.dtype == series.dtype == np.float32
        assert 0 <= seen.min() <= seen.max() <= 1
        assert 0 <= series.min() <= series.max() <= SCALE.clip
        # Dropped pulses and masks leave most of the pulses where they were.
        bins = np.flatnonzero(series[0] > 0.5) % BINS
        assert len(bins) > CYCLES / 2
        assert set(bins.tolist()) <= {31, 32, 33}
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(counts, before[1])


def test_picture_and_series_grow_together():
    image, counts = recording()
    counts[counts > 50] = 50
    image[:] = 1
    image[SIDE - 50 :, 64] = (0, 0, 1)  # from amplitude 0 up to 50
    settings = ViewSettings(**PLAIN)
    for gain in (0.8, 1.2):
        seen = image_view(image, SharedChange(gain=gain), settings, view_rng(0, 0, 0, 0))
        series = view_of(counts, SharedChange(gain=gain), settings, view_rng(0, 0, 0, 0))
        top = SIDE - np.flatnonzero((seen[:, 64] != 1).any(axis=1))[0]
        assert abs(top - 50 * gain) <= 1
        assert math.isclose(series.max() * SCALE.full, 50 * gain, rel_tol=1e-5)
    still = replace(settings, picture_gain=False)
    seen = image_view(image, SharedChange(gain=1.2), still, view_rng(0, 0, 0, 0))
    np.testing.assert_array_equal(seen, image)


def test_lost_dots_take_the_colour_of_the_ground():
    image = np.zeros((64, 64, 3), np.float32)
    image[10:30] = (1, 0.5, 0)
    np.testing.assert_array_equal(ground_colour(image), [0, 0, 0])
    settings = ViewSettings(**PLAIN | {"dots": (0.3, 0.3)})
    seen = image_view(image, SharedChange(), settings, view_rng(0, 0, 0, 0))
    colours = {tuple(c) for c in seen.reshape(-1, 3).tolist()}
    assert colours == {(0.0, 0.0, 0.0), (1.0, 0.5, 0.0)}
    assert 0.6 < (seen[10:30, :, 0] == 1).mean() < 0.9


def test_one_modality_is_dropped_at_times_and_never_the_only_one():
    rng = np.random.default_rng(0)
    drawn = [drop_modality(("image", "series"), 0.15, rng) for _ in range(4000)]
    assert 0.12 < np.mean([d is not None for d in drawn]) < 0.18
    assert set(drawn) == {None, "image", "series"}
    assert {drop_modality(("image",), 1.0, rng) for _ in range(10)} == {None}


@pytest.mark.parametrize("segment", [60, 64, 128, 256])
def test_windows_are_whole_segments_and_begin_with_a_cycle(segment: int):
    total = 1200 * 128
    length = window_length(total, per_cycle=128, segment=segment, limit=30_000)
    assert length <= 30_000
    assert length % math.lcm(segment, 128) == 0
    counts = np.arange(total, dtype=np.float32)[None]
    parts = windows(counts, length, per_cycle=128, count=5)
    assert len(parts) == 5
    assert all(part.shape == (1, length) and part[0, 0] % 128 == 0 for part in parts)
    assert parts[0][0, 0] == 0
    assert parts[-1][0, -1] >= total - 128


def test_a_series_shorter_than_a_token_is_refused():
    assert window_length(200, per_cycle=128, segment=60) == 180
    with pytest.raises(DataError, match="one token takes 256"):
        window_length(200, per_cycle=128, segment=256)


@pytest.mark.parametrize("total", [600, 2_559, 20_000, 153_600])
def test_a_folded_series_is_whole_tokens_however_short(total: int):
    length = window_length(total, per_cycle=128, segment=256, fold=10)
    assert 0 < length <= total
    counts = np.random.default_rng(0).integers(0, 100, (1, length)).astype(np.float32)
    scale = SeriesScale(spread=1.0, relative=True, cycle=128, fold=10, least=2)
    made = finished(counts, scale)
    assert made.shape[1] % 256 == 0 and made.shape[1] >= 256
    assert made.shape[1] <= max(256, total // 10)
    assert window_length(20_000, per_cycle=128, segment=256, limit=100, fold=10) == 2_560


def test_the_scale_is_the_training_recordings_and_survives_silence():
    rng = np.random.default_rng(0)
    some = [rng.integers(0, 101, (1, 50_000)).astype(np.uint8) for _ in range(3)]
    scale = estimate_scale([*some, None])
    assert 98 <= scale.high <= scale.full <= 100
    assert estimate_scale([np.zeros((1, 1000), np.uint8)]).full == 1
    assert estimate_scale([None]).full == 1


@pytest.mark.parametrize("shape", [(1, 200_000), (64, 64, 3), (1, 1_500_000)])
def test_noise_is_normal_and_another_for_every_draw(shape: tuple[int, ...]):
    rng = np.random.default_rng(3)
    first, second = noise(shape, rng), noise(shape, rng)
    assert first.shape == shape and first.dtype == np.float32
    for one in (first, second):
        error = 4 / math.sqrt(one.size)
        assert abs(one.mean()) < error and abs(one.std() - 1) < error
        assert abs(np.mean(one**4) - 3) < 10 * error
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / math.sqrt(first.size)
    np.testing.assert_array_equal(noise(shape, np.random.default_rng(3)), first)


def test_a_picture_of_another_size_is_resized():
    image = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    np.testing.assert_allclose(
        sized(image, 32), image.reshape(32, 2, 32, 2, 3).mean((1, 3)), atol=1e-6
    )
    assert sized(image, 64) is image
