import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.bootstrap import (
    draw_groups,
    macro_f1_figure,
    paired_group_bootstrap,
)
from chiasm.metrics.classification import macro_f1

QUICK = settings(derandomize=True, deadline=None, max_examples=30)


def _width(interval):
    return interval[1] - interval[0]


def _interval(figure, groups, **options):
    """The interval of one figure: that of its difference from a figure that is always 0."""
    difference = paired_group_bootstrap(figure, np.zeros(len(groups)), groups, **options)
    return difference.low, difference.high


def _decisions(seed=0, groups=20, each=5, classes=4):
    rng = np.random.default_rng(seed)
    member = np.repeat(np.arange(groups), each)
    truth = rng.integers(0, classes, member.size)
    guessed = np.where(rng.random(member.size) < 0.6, truth, rng.integers(0, classes, member.size))
    return truth, guessed, member


@pytest.mark.parametrize("seed", [0, 1])
def test_all_draws_at_once_are_those_of_one_by_one(seed):
    truth, guessed, member = _decisions(seed, groups=6)  # some draws miss a class
    once = _interval(macro_f1_figure(truth, guessed, 5), member, draws=60)
    each = _interval(lambda rows: macro_f1(truth[rows], guessed[rows], 5), member, draws=60)
    assert once == pytest.approx(each, rel=1e-12)


def test_draws_are_scikit_learns_figures_with_weights():
    truth, guessed, member = _decisions()
    drawn = draw_groups(member, stratify=truth, draws=20)
    expected = [
        f1_score(truth, guessed, average="macro", sample_weight=row[member]) for row in drawn.counts
    ]
    low, high = _interval(
        macro_f1_figure(truth, guessed, 4), member, stratify=truth, draws=20, level=0.999999
    )
    assert (low, high) == pytest.approx((min(expected), max(expected)), abs=1e-6)
    weights = drawn.counts[:, member]
    assert macro_f1_figure(truth, guessed, 4).draws(weights) == pytest.approx(expected)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=40))
def test_every_draw_holds_whole_groups_and_each_stratum_as_often(pairs):
    groups, labels = np.array(pairs).T
    labels = labels[np.searchsorted(np.sort(groups), groups)]  # one label a group
    drawn = draw_groups(groups, stratify=labels, draws=15)
    assert np.all(drawn.counts.sum(axis=1) == np.unique(groups).size)
    label_of = np.array([labels[drawn.member == g][0] for g in range(drawn.counts.shape[1])])
    for one in np.unique(labels):
        assert np.all(drawn.counts[:, label_of == one].sum(axis=1) == np.sum(label_of == one))


@QUICK
@given(st.integers(0, 1000))
def test_the_order_of_samples_has_no_say(seed):
    truth, guessed, member = _decisions(seed, groups=8)
    order = np.random.default_rng(seed).permutation(truth.size)
    plain = _interval(macro_f1_figure(truth, guessed, 4), member, draws=40)
    mixed = macro_f1_figure(truth[order], guessed[order], 4)
    assert _interval(mixed, member[order], draws=40) == pytest.approx(plain)


def test_groups_make_wider_intervals_that_hold_the_truth():
    rng = np.random.default_rng(0)
    runs, groups, each = 150, 30, 8
    member = np.repeat(np.arange(groups), each)
    held, pretended, widths = 0, 0, []
    for run in range(runs):
        values = np.repeat(rng.normal(size=groups), each) + 0.5 * rng.normal(size=groups * each)
        grouped = _interval(values, member, draws=200, seed=run)
        alone = _interval(values, np.arange(values.size), draws=200, seed=run)
        held += grouped[0] <= 0.0 <= grouped[1]
        pretended += alone[0] <= 0.0 <= alone[1]
        widths.append(_width(grouped) / _width(alone))
    # A percentile interval of 30 groups covers some 93 %; chance is off by 2 % (one sigma).
    assert 0.86 <= held / runs <= 0.99
    assert pretended / runs < 0.75
    assert np.mean(widths) > 2.0


def test_a_perfect_method_is_perfect_in_every_draw():
    truth, _, member = _decisions()
    assert _interval(macro_f1_figure(truth, truth, 4), member) == (1.0, 1.0)


def test_methods_are_compared_on_the_same_draws():
    truth, guessed, member = _decisions()
    better = np.where(np.arange(truth.size) % 3 == 0, truth, guessed)
    first, second = macro_f1_figure(better, better, 4), macro_f1_figure(truth, guessed, 4)
    same = paired_group_bootstrap(second, second, member)
    assert same == (0.0, 0.0, 0.0, 1.0)
    first = macro_f1_figure(truth, better, 4)
    found = paired_group_bootstrap(first, second, member, draws=500)
    assert found.difference == pytest.approx(
        macro_f1(truth, better, 4) - macro_f1(truth, guessed, 4)
    )
    assert 0.0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(2 / 501)
    back = paired_group_bootstrap(second, first, member, draws=500)
    assert (back.difference, back.p_value) == pytest.approx((-found.difference, found.p_value))
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_no_difference_is_found_as_rarely_as_promised():
    rng = np.random.default_rng(1)
    member = np.repeat(np.arange(40), 4)
    found = []
    for run in range(150):
        gain = np.repeat(rng.normal(size=40), 4)
        found.append(paired_group_bootstrap(gain, np.zeros(160), member, draws=199, seed=run)[3])
    assert np.mean(np.array(found) <= 0.05) < 0.12
    assert 0.4 < np.mean(found) < 0.6


def test_a_thousand_draws_of_ten_thousand_samples_are_quick():
    rng = np.random.default_rng(2)
    truth, guessed = rng.integers(0, 10, 10_000), rng.integers(0, 10, 10_000)
    start = time.process_time()
    _interval(macro_f1_figure(truth, guessed, 10), np.arange(10_000))
    assert time.process_time() - start < 3.0  # some 0.3 s; the rest for a busy machine


def test_the_seed_decides_and_undefined_draws_are_left_out():
    values, groups = np.arange(30.0), np.arange(30) // 3
    assert _interval(values, groups) == _interval(values, groups)
    assert _interval(values, groups, seed=1) != _interval(values, groups)
    assert np.isnan(paired_group_bootstrap(lambda chosen: np.nan, values, groups)).all()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: draw_groups([]), DataError),
        (lambda: draw_groups([0, 1], stratify=[0]), DataError),
        (lambda: draw_groups([0, 1], draws=0), ConfigurationError),
        (lambda: _interval([1.0, 2.0], [0]), DataError),
        (lambda: _interval([1.0, np.nan], [0, 1]), DataError),
        (lambda: _interval([[1.0]], [0]), DataError),
        (lambda: _interval([1.0], [0], level=1.0), ConfigurationError),
        (lambda: macro_f1_figure([0, 1], [0, 2], 2), DataError),
        (lambda: macro_f1_figure([0, 1], [0], 2), DataError),
    ],
)
def test_bad_input_is_named(call, error):
    with pytest.raises(error, match=r"\.$"):
        call()
