import numpy as np
import pytest
from overlap_reference import smooth_maps

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.bootstrap import bootstrap_weights, percentile_interval
from chiasm.metrics.pixel_histograms import PixelHistograms
from chiasm.metrics.ranking import auroc, average_precision, flatten_pixels
from chiasm.metrics.region_overlap import aupro


def _histograms(maps, masks, foregrounds, bins=4096):
    images = PixelHistograms(bins)
    for index in range(len(maps)):
        images.update(
            maps[index], masks[index], None if foregrounds is None else foregrounds[index]
        )
    return images


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("counts", [[1] * 9, [0, 2, 0, 1, 0, 3, 1, 0, 2]])
def test_weighted_figures_are_those_of_repeated_images(restricted, counts):
    maps, masks, foregrounds = smooth_maps(9, 64, seed=4)
    keep = foregrounds if restricted else None
    images = _histograms(maps, masks, keep)
    again = np.repeat(np.arange(9), counts)
    chosen = maps[again], masks[again], None if keep is None else keep[again]
    scores, labels = flatten_pixels(*chosen)
    assert images.auroc(counts) == pytest.approx(auroc(scores, labels), abs=1e-3)
    expected = average_precision(scores, labels)
    assert images.average_precision(counts) == pytest.approx(expected, abs=2e-3)
    exact = aupro(chosen[0], chosen[1], foregrounds=chosen[2])
    for limit, area in images.aupro(weights=counts).items():
        assert area == pytest.approx(exact[limit], abs=2e-3)


def test_many_draws_at_once_are_the_draws_one_by_one():
    images = _histograms(*smooth_maps(6, 32))
    weights = bootstrap_weights(6, draws=5)
    areas = images.aupro(weights=weights)
    for draw, row in enumerate(weights):
        assert images.auroc(weights)[draw] == pytest.approx(images.auroc(row))
        expected = images.average_precision(row)
        assert images.average_precision(weights)[draw] == pytest.approx(expected)
        for limit, area in images.aupro(weights=row).items():
            assert areas[limit][draw] == pytest.approx(area)


def test_the_interval_holds_the_exact_figure():
    maps, masks, foregrounds = smooth_maps(12, 32, strength=1.5)
    labels = masks.any(axis=(1, 2))
    weights = bootstrap_weights(12, stratify=labels, draws=300)
    drawn = _histograms(maps, masks, foregrounds).aupro((0.3,), weights)[0.3]
    low, high = percentile_interval(drawn)
    assert low < aupro(maps, masks, foregrounds=foregrounds)[0.3] < high


def test_more_bins_are_closer():
    maps, masks, foregrounds = smooth_maps(6, 64)
    exact = average_precision(*flatten_pixels(maps, masks, foregrounds))
    errors = [
        abs(_histograms(maps, masks, foregrounds, bins).average_precision() - exact)
        for bins in (8, 4096)
    ]
    assert errors[1] < errors[0]


def test_images_may_come_after_a_figure():
    maps, masks, foregrounds = smooth_maps(6, 32)
    images = _histograms(maps[:3], masks[:3], foregrounds[:3])
    images.auroc()
    for index in range(3, 6):
        images.update(maps[index], masks[index], foregrounds[index])
    assert images.auroc() == _histograms(maps, masks, foregrounds).auroc()


def test_without_defects_there_is_no_figure():
    images = _histograms(np.ones((2, 4, 4)), np.zeros((2, 4, 4)), None)
    assert np.isnan(images.auroc())
    assert np.isnan(images.average_precision())
    assert np.isnan(images.aupro()[0.3])
    empty = _histograms(np.ones((1, 4, 4)), np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))
    assert np.isnan(empty.auroc())


def test_bad_input_is_named():
    images = PixelHistograms()
    with pytest.raises(DataError, match="no image"):
        images.auroc()
    images.update(np.ones((2, 2)), np.eye(2))
    with pytest.raises(DataError, match="do not fit 1 images"):
        images.auroc([1, 1])
    with pytest.raises(ConfigurationError):
        PixelHistograms(1)
