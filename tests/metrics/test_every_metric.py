"""One suite for every figure: a reference, its range, and what does not change it.

A new figure gets one row in ``ROWS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from overlap_reference import brute_force_aupro
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from chiasm.errors import ChiasmError
from chiasm.metrics import metrics, versions

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """How a figure is tested.

    Attributes:
        example: random numbers to arguments.
        reference: another implementation, of the same arguments.
        paired: positions of the arguments whose samples may be permuted together.
        ranked: positions of the arguments of which only the order of the values matters.
        numbers: position of an argument in which a NaN is refused.
        part: what is compared, where a figure returns more than it.
        low, high: range of the figure.
    """

    example: Callable[[np.random.Generator], Arguments]
    reference: Callable[..., Any]
    paired: tuple[int, ...] = (0, 1)
    ranked: tuple[int, ...] = ()
    numbers: int = 0
    part: Callable[[Any], Any] = lambda value: value
    low: float = 0.0
    high: float = 1.0


def scores(rng: np.random.Generator) -> Arguments:
    """Scores with ties, and 0/1 labels of both classes."""
    labels = np.concatenate([[0, 1], rng.integers(0, 2, 40)])
    return np.round(rng.normal(size=42) + labels, 1), labels


def decisions(rng: np.random.Generator) -> Arguments:
    truth = np.concatenate([np.arange(4), rng.integers(0, 4, 40)])
    return truth, np.where(rng.random(44) < 0.6, truth, rng.integers(0, 4, 44))


def probabilities(rng: np.random.Generator) -> Arguments:
    truth = np.concatenate([np.arange(4), rng.integers(0, 4, 41)])
    # Rounded logits: some confidences tie.
    return softmax(np.round(rng.normal(size=(45, 4)) + 2 * np.eye(4)[truth]), axis=1), truth


def maps(rng: np.random.Generator) -> Arguments:
    """Four maps with ties; masks of one to three regions, and one without any."""
    masks = rng.random((4, 9, 9)) < 0.05
    masks[0], masks[1:, 4, 4] = False, True
    return list(np.round(rng.normal(size=(4, 9, 9)) + masks, 1)), list(masks)


def best_f1(values: Any, labels: Any) -> float:
    return max(sklearn_metrics.f1_score(labels, values >= t) for t in np.unique(values))


def fpr_at_95(values: Any, unseen: Any) -> float:
    fpr, tpr, _ = sklearn_metrics.roc_curve(unseen, values, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95)])


def p_values(values: Any, calibration: Any) -> list[float]:
    return [(1 + sum(c >= v for c in calibration)) / (len(calibration) + 1) for v in values]


def threshold(calibration: Any, rate: float) -> float:
    """The lowest calibration score above which p-values are at most the rate."""
    above = np.nextafter(calibration, np.inf)
    return min(c for c, p in zip(calibration, p_values(above, calibration)) if p <= rate)


def calibration_error(stated: Any, truth: Any) -> float:
    """Bins of equal mass; the samples of a tie are each as right as the tie is on average."""
    confidence, right = stated.max(axis=1), stated.argmax(axis=1) == truth
    shared = np.array([right[confidence == c].mean() for c in confidence])
    order = np.argsort(confidence, kind="stable")
    return sum(abs(sum(confidence[b] - shared[b])) for b in np.array_split(order, 15)) / len(truth)


def f1_of_classes(truth: Any, predicted: Any, classes: int) -> float:
    return float(sklearn_metrics.f1_score(truth, predicted, average="macro"))


def auroc_by_class(stated: Any, truth: Any) -> Any:
    return sklearn_metrics.roc_auc_score(truth, stated, multi_class="ovr", average=None)


def brier_score(stated: Any, truth: Any) -> float:
    return float(((stated - np.eye(4)[truth]) ** 2).sum(axis=1).mean())


ROWS: dict[str, Row] = {
    "accuracy": Row(decisions, sklearn_metrics.accuracy_score),
    "aupro": Row(
        maps,
        lambda *images: brute_force_aupro(*images, limit=0.3),
        ranked=(0,),
        part=lambda by_limit: by_limit[0.3],
    ),
    "auroc": Row(scores, lambda s, y: sklearn_metrics.roc_auc_score(y, s), ranked=(0,)),
    "average_precision": Row(
        scores, lambda s, y: sklearn_metrics.average_precision_score(y, s), ranked=(0,)
    ),
    "balanced_accuracy": Row(
        lambda rng: (*decisions(rng), 4),
        lambda truth, predicted, _: sklearn_metrics.balanced_accuracy_score(truth, predicted),
    ),
    "brier": Row(probabilities, brier_score, high=2.0),
    "conformal_p_value": Row(
        lambda rng: (rng.integers(0, 9, 20) / 4, rng.integers(0, 9, 30) / 4),
        p_values,
        paired=(1,),
        ranked=(0, 1),
        numbers=1,
    ),
    "conformal_threshold": Row(
        lambda rng: (rng.integers(0, 30, 40) / 30, 0.1), threshold, paired=(0,)
    ),
    "equal_mass_calibration_error": Row(probabilities, calibration_error),
    "f1_max": Row(scores, best_f1, ranked=(0,), part=lambda pair: pair[0]),
    "fpr_at_tpr": Row(scores, fpr_at_95, ranked=(0,)),
    "macro_f1": Row(lambda rng: (*decisions(rng), 4), f1_of_classes),
    "one_vs_rest_auroc": Row(probabilities, auroc_by_class, ranked=(0,)),
}
# Intervals of figures by random draws: test_bootstrap.py and test_group_bootstrap.py.
INTERVALS = {"bootstrap_interval", "paired_group_bootstrap"}


def test_every_figure_has_a_row_and_a_version():
    assert set(metrics()) == set(versions()) == set(ROWS) | INTERVALS


@pytest.fixture(params=sorted(ROWS))
def name(request) -> str:
    return request.param


@pytest.fixture(params=range(5))
def arguments(request, name) -> Arguments:
    return ROWS[name].example(np.random.default_rng(request.param))


def value(name: str, arguments: Arguments) -> Any:
    return np.asarray(ROWS[name].part(metrics()[name](*arguments)), np.float64)


def test_a_figure_equals_its_reference(name, arguments):
    assert value(name, arguments) == pytest.approx(np.asarray(ROWS[name].reference(*arguments)))


def test_a_figure_is_in_its_range(name, arguments):
    row, figure = ROWS[name], value(name, arguments)
    assert (row.low <= figure).all() and (figure <= row.high).all()


def test_the_order_of_samples_does_not_change_a_figure(name, arguments):
    order = np.random.default_rng(0).permutation(len(arguments[ROWS[name].paired[0]]))
    permuted = tuple(
        [argument[i] for i in order] if position in ROWS[name].paired else argument
        for position, argument in enumerate(arguments)
    )
    moved = tuple(np.asarray(a) if isinstance(a, list) else a for a in permuted)
    assert value(name, moved) == pytest.approx(value(name, arguments))


@pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row.ranked))
def test_a_monotone_transform_does_not_change_a_figure_of_ranks(name, arguments):
    moved = tuple(
        np.exp(np.asarray(argument)) + 7 if position in ROWS[name].ranked else argument
        for position, argument in enumerate(arguments)
    )
    assert value(name, moved) == pytest.approx(value(name, arguments))


def test_a_nan_is_refused_in_a_sentence(name, arguments):
    position = ROWS[name].numbers
    broken = np.array(arguments[position], np.float64)
    broken.flat[3] = np.nan
    with pytest.raises(ChiasmError, match=r"\.$"):
        value(name, (*arguments[:position], broken, *arguments[position + 1 :]))


def test_arguments_are_not_changed(name, arguments):
    before = [np.array(argument) for argument in arguments]
    value(name, arguments)
    for argument, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(argument, copy)
