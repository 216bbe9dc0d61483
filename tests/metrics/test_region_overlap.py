import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlap_reference import brute_force_aupro, smooth_maps
from sklearn.metrics import roc_auc_score

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.region_overlap import aupro

LIMITS = (1.0, 0.3, 0.1, 0.05, 0.01)
QUICK = settings(derandomize=True, deadline=None, max_examples=25)


def _random_case(seed: int, levels: int):
    """Four small images with several touching and separate regions, and `levels` scores."""
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 9, 11)) < 0.15
    masks[0] = False
    masks[1, 4, 4] = True
    scores = rng.normal(size=masks.shape) + rng.uniform(0, 2) * masks
    ranks = np.floor(levels * (scores - scores.min()) / np.ptp(scores))
    return ranks / levels, masks, rng.random(masks.shape) < 0.7


@QUICK
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 12, 100]))
def test_equals_the_brute_force_loop_ties_included(seed, levels):
    maps, masks, foregrounds = _random_case(seed, levels)
    free = aupro(maps, masks, limits=LIMITS)
    held = aupro(maps, masks, limits=LIMITS, foregrounds=foregrounds)
    for limit in LIMITS:
        assert free[limit] == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-9)
        expected = brute_force_aupro(maps, masks, limit, foregrounds)
        assert held[limit] == pytest.approx(expected, abs=1e-9)


def test_equals_the_brute_force_loop_on_smooth_maps():
    maps, masks, foregrounds = smooth_maps(4, 32)
    for keep in (None, foregrounds):
        for limit, area in aupro(maps, masks, limits=LIMITS, foregrounds=keep).items():
            assert area == pytest.approx(brute_force_aupro(maps, masks, limit, keep), abs=1e-6)


@pytest.mark.parametrize("limit", LIMITS)
def test_of_a_single_region_is_the_partial_auroc(limit):
    maps, _, _ = _random_case(3, 30)
    masks = np.zeros(maps.shape, bool)
    masks[2, 3:6, 3:6] = True
    # scikit-learn rescales the partial area so that chance is 1/2 (McClish): undo that.
    standard = roc_auc_score(masks.ravel(), maps.ravel(), max_fpr=limit)
    chance = limit / 2
    expected = chance + (2 * standard - 1) * (1 - chance)
    assert aupro(maps, masks, limits=(limit,))[limit] == pytest.approx(expected)


def test_a_perfect_map_has_one_and_a_constant_map_half_the_limit():
    _, masks, _ = _random_case(5, 10)
    for area in aupro(masks * 1.0, masks, limits=LIMITS).values():
        assert area == pytest.approx(1.0)
    for limit, area in aupro(np.ones(masks.shape), masks, limits=LIMITS).items():
        assert area == pytest.approx(limit / 2)
    for area in aupro(-1.0 * masks, masks, limits=(0.3,)).values():
        assert area == 0.0


def test_a_curve_that_jumps_across_the_limit_is_a_straight_line_there():
    mask = np.zeros((1, 10), bool)
    mask[0, :2] = True
    scores = np.where(np.arange(10) == 0, 1.0, 0.0)[None]  # finds half the region, ties the rest
    # From (0, 1/2) straight to (1, 1): at rate 0.3 the overlap is 0.65.
    assert aupro([scores], [mask], limits=(0.3,))[0.3] == pytest.approx((0.5 + 0.65) / 2)


@QUICK
@given(st.integers(0, 10_000))
def test_larger_limits_never_have_a_smaller_area(seed):
    maps, masks, _ = _random_case(seed, 20)
    areas = [aupro(maps, masks, limits=(limit,))[limit] for limit in sorted(LIMITS)]
    assert np.all(np.diff(areas) >= -1e-12)


def test_only_the_order_of_the_scores_matters_and_not_that_of_the_images():
    maps, masks, _ = _random_case(7, 50)
    expected = aupro(maps, masks)
    assert aupro(np.exp(maps) - 9, masks) == expected
    for limit, area in aupro(maps[::-1], masks[::-1]).items():
        assert area == pytest.approx(expected[limit])


def test_each_region_counts_the_same_whatever_its_size():
    mask = np.zeros((12, 12), bool)
    mask[1:9, 1:9] = True
    mask[11, 11] = True
    found = np.zeros((12, 12))
    found[11, 11] = 1.0
    # One region of two found without a false alarm, the other only with everything else.
    assert aupro([found], [mask], limits=(0.01,))[0.01] == pytest.approx((0.5 + 0.505) / 2)


def test_diagonal_neighbours_are_one_region():
    mask = np.eye(4, dtype=bool)
    found = np.zeros((4, 4))
    found[0, 0] = 1.0
    start = 1 / 4
    expected = start + (1 - start) * 0.1 / 2
    assert aupro([found], [mask], limits=(0.1,))[0.1] == pytest.approx(expected)


def test_images_may_differ_in_size():
    maps = [np.zeros((3, 5)), np.eye(4)]
    masks = [np.zeros((3, 5), bool), np.eye(4, dtype=bool)]
    assert aupro(maps, masks, limits=(0.3,)) == {0.3: 1.0}


def test_without_regions_or_without_good_pixels_there_is_no_figure():
    assert np.isnan(aupro([np.ones((2, 2))], [np.zeros((2, 2))])[0.3])
    assert np.isnan(aupro([np.ones((2, 2))], [np.ones((2, 2))])[0.3])
    assert np.isnan(aupro([], [])[0.3])


def test_bad_input_is_named():
    ones = np.ones((2, 2))
    with pytest.raises(ConfigurationError, match="is not a limit"):
        aupro([ones], [ones], limits=(30,))
    with pytest.raises(DataError, match="image 1 holds 4 NaN"):
        aupro([ones, ones * np.nan], [ones, ones])
    with pytest.raises(DataError, match=r"\(2, 2\).*\(2, 1\)"):
        aupro([ones], [ones[:, :1]])
