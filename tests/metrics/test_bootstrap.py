import numpy as np
import pytest

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.bootstrap import (
    auroc_interval,
    bootstrap_interval,
    bootstrap_weights,
    percentile_interval,
)
from chiasm.metrics.ranking import auroc


def _width(interval):
    return interval[1] - interval[0]


def test_interval_of_a_mean_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(np.mean, values, draws=4000)
    error = values.std() / np.sqrt(values.size)
    # A percentile of 4,000 draws is itself off by a few per cent of the interval's width.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_all_draws_at_once_give_the_auroc_interval_of_one_by_one():
    rng = np.random.default_rng(1)
    labels = rng.random(40) < 0.3
    scores = np.round(rng.normal(size=40) + labels, 1)
    groups = rng.integers(0, 15, 40)
    for chosen in (None, groups):
        slow = bootstrap_interval(
            auroc, scores, labels, groups=chosen, stratify=labels, draws=200, seed=3
        )
        fast = auroc_interval(scores, labels, groups=chosen, draws=200, seed=3)
        assert fast == pytest.approx(slow)
        assert fast[0] < auroc(scores, labels) < fast[1]


def test_copies_in_one_group_add_no_confidence():
    values = np.random.default_rng(2).normal(size=60)
    alone = bootstrap_interval(np.mean, values)
    grouped = bootstrap_interval(np.mean, np.repeat(values, 9), groups=np.arange(540) // 9)
    pretended = bootstrap_interval(np.mean, np.repeat(values, 9))
    assert grouped == pytest.approx(alone)
    assert _width(pretended) == pytest.approx(_width(alone) / 3, rel=0.2)


def test_every_draw_holds_each_class_as_often_as_the_data():
    labels = np.array([1] + [0] * 30)
    weights = bootstrap_weights(31, stratify=labels, draws=500)
    assert np.all(weights[:, 0] == 1)
    assert np.all(weights.sum(axis=1) == 31)
    assert np.any(bootstrap_weights(31, draws=500)[:, 0] == 0)


def test_members_of_a_group_are_drawn_together():
    groups = np.array(["a", "b", "a", "c", "b"])
    weights = bootstrap_weights(5, groups=groups, draws=50)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 1], weights[:, 4])


def test_the_seed_decides():
    assert np.array_equal(bootstrap_weights(9, seed=1), bootstrap_weights(9, seed=1))
    assert not np.array_equal(bootstrap_weights(9, seed=1), bootstrap_weights(9, seed=2))


def test_a_higher_level_is_wider():
    values = np.arange(30.0)
    narrow = bootstrap_interval(np.mean, values, level=0.5)
    wide = bootstrap_interval(np.mean, values, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_undefined_draws_are_left_out():
    assert percentile_interval([np.nan, 1.0, 1.0]) == (1.0, 1.0)
    assert np.isnan(percentile_interval([np.nan])).all()
    assert np.isnan(auroc_interval([0.1, 0.2], [0, 0])).all()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: bootstrap_interval(np.mean, [1.0], level=95), ConfigurationError),
        (lambda: bootstrap_interval(np.mean, [1.0], draws=0), ConfigurationError),
        (lambda: bootstrap_interval(np.mean, []), DataError),
        (lambda: bootstrap_interval(np.mean, [1.0], [1.0, 2.0]), DataError),
        (lambda: bootstrap_weights(3, groups=[1, 2]), DataError),
        (lambda: auroc_interval([np.nan, 1.0], [0, 1]), DataError),
    ],
)
def test_bad_input_is_named(call, error):
    with pytest.raises(error):
        call()
