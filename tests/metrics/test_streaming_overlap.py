import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlap_reference import smooth_maps

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.pixel_histograms import float_bins
from chiasm.metrics.region_overlap import aupro
from chiasm.metrics.streaming_overlap import FLUSH_PIXELS, StreamingAupro

QUICK = settings(derandomize=True, deadline=None, max_examples=60)
FLOATS = st.floats(width=32, allow_nan=False)


def _stream(maps, masks, foregrounds=None, bins=1 << 20):
    stream = StreamingAupro(bins)
    for index in range(len(maps)):
        keep = None if foregrounds is None else foregrounds[index]
        stream.update(maps[index], masks[index], keep)
    return stream


@QUICK
@given(st.lists(FLOATS, min_size=1), st.sampled_from([12, 16, 20, 24]))
def test_bins_never_reverse_an_order(values, bits):
    bins = float_bins(np.sort(np.array(values, np.float32)), bits)
    assert np.all(np.diff(bins) >= 0)
    assert bins.min() >= 0
    assert bins.max() < 2**bits


@QUICK
@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_bins_keep_apart_what_differs_by_one_part_in_2048(value):
    near = np.array([value, value * (1 + 2.0**-11) * (1 + 2.0**-22)])
    low, high = float_bins(near)
    assert low < high
    assert float_bins(-near[1]) < float_bins(-near[0])


def test_both_zeros_share_a_bin_and_too_large_numbers_have_one():
    assert float_bins(-0.0) == float_bins(0.0)
    assert float_bins(1e300) == float_bins(np.inf)


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("transform", [lambda x: x, lambda x: -1 / (1 + x), np.tanh])
def test_is_within_its_stated_error_and_within_a_thousandth(restricted, transform):
    maps, masks, foregrounds = smooth_maps(9, 96)
    maps = transform(maps)
    keep = foregrounds if restricted else None
    exact = aupro(maps, masks, foregrounds=keep)
    stream = _stream(maps, masks, keep)
    for limit, area in stream.compute().items():
        assert abs(area - exact[limit]) <= stream.error_bound()[limit] + 1e-12
        assert abs(area - exact[limit]) < 1e-3


@QUICK
@given(st.integers(0, 10_000))
def test_the_stated_error_holds_with_few_bins_and_ties(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 10, 10)) < 0.2
    maps = 1 + rng.integers(0, 40, masks.shape) / rng.integers(40, 400) + 0.02 * masks
    limits = (1.0, 0.3, 0.05)
    exact = aupro(maps, masks, limits=limits)
    stream = _stream(maps, masks, bins=1 << 12)
    for limit, area in stream.compute(limits).items():
        assert abs(area - exact[limit]) <= stream.error_bound(limits)[limit] + 1e-9


def test_where_no_bin_holds_two_scores_it_is_exact():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 10, 10)) < 0.2
    maps = 2.0 ** rng.integers(-8, 8, masks.shape)
    exact = aupro(maps, masks)
    for limit, area in _stream(maps, masks).compute().items():
        assert area == pytest.approx(exact[limit], abs=1e-12)


def test_merged_streams_are_one_stream():
    maps, masks, foregrounds = smooth_maps(6, 48)
    whole = _stream(maps, masks, foregrounds)
    first = _stream(maps[:2], masks[:2], foregrounds[:2])
    first.merge(_stream(maps[2:], masks[2:], foregrounds[2:]))
    assert first.images == whole.images
    assert first.regions == whole.regions
    for limit, area in first.compute().items():
        assert area == pytest.approx(whole.compute()[limit], abs=1e-12)


def test_more_pixels_than_wait_at_once_are_all_counted():
    side = 1 + int(np.sqrt(FLUSH_PIXELS / 2))
    scores = np.linspace(-1, 1, side * side).reshape(side, side)
    stream = _stream([scores] * 3, [np.zeros((side, side))] * 3)
    stream.flush()
    assert stream.good_histogram.sum() == 3 * side * side


def test_without_regions_there_is_no_figure():
    stream = StreamingAupro()
    assert np.isnan(stream.compute()[0.3])
    stream.update(np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))
    assert np.isnan(stream.compute()[0.3])
    assert np.isnan(stream.error_bound()[0.3])


def test_bad_input_is_named():
    for bins in (1000, 1 << 8, 0, 1 << 30):
        with pytest.raises(ConfigurationError):
            StreamingAupro(bins)
    with pytest.raises(ConfigurationError, match="cannot take in"):
        StreamingAupro(1 << 16).merge(StreamingAupro(1 << 17))
    with pytest.raises(DataError, match="NaN"):
        StreamingAupro().update(np.full((2, 2), np.nan), np.zeros((2, 2)))
