"""How good decisions between several classes are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import DataError
from chiasm.metrics.ranking import auroc


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Figures of each class, ``(K,)``; NaN for a class that the truth does not hold.

    Attributes:
        precision: share of right ones among those called so; 0 where none was called so.
        recall: share of its own that was found.
        f1: harmonic mean of both.
        support: how many there are.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count decisions; ``(K, K)``, rows are the truth.

    Args:
        truth, predicted: ``(N,)`` class numbers in [0, classes).
        classes: K.

    Raises:
        DataError: lengths differ, or a number is out of range.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    rows, columns = _numbers(truth, classes, "truth"), _numbers(predicted, classes, "predictions")
    if len(rows) != len(columns):
        raise DataError(f"There are {len(rows)} labels, but {len(columns)} predictions.")
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Precision, recall and F1 of each class from a confusion matrix ``(K, K)``.

    Example:
        >>> class_scores([[1, 1], [0, 1]]).f1.round(3).tolist()
        [0.667, 0.667]
    """
    matrix = np.asarray(confusion, np.float64)
    right, own, called = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    absent = np.where(own > 0, 1.0, np.nan)
    precision = absent * right / np.maximum(called, 1)
    recall = absent * right / np.maximum(own, 1)
    f1 = absent * 2 * right / np.maximum(own + called, 1)
    return ClassScores(precision, recall, f1, own.astype(np.int64))


def macro_f1(truth: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Mean F1 over the classes that the truth holds; in [0, 1].

    A class that was never recorded has no F1 and does not count; calling something by its name
    costs the class that it really was.
    """
    return float(np.nanmean(class_scores(confusion_matrix(truth, predicted, classes)).f1))


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right decisions, in [0, 1]."""
    return float((np.asarray(truth) == np.asarray(predicted)).mean())


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Mean recall over the classes that the truth holds; in [0, 1], 1 / K by chance."""
    return float(np.nanmean(class_scores(confusion_matrix(truth, predicted, classes)).recall))


def one_vs_rest_auroc(probabilities: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """AUROC of each class's probability against all other classes, ``(K,)``.

    NaN for a class that is absent or the only one.

    Args:
        probabilities: ``(N, K)``; logits serve as well.
        truth: ``(N,)`` class numbers.
    """
    scores = np.asarray(probabilities, np.float64)
    if scores.ndim != 2:
        raise DataError(f"Probabilities must be (samples, classes), not {scores.shape}.")
    labels = _numbers(truth, scores.shape[1], "truth")
    found = np.full(scores.shape[1], np.nan)
    for k in range(scores.shape[1]):
        own = labels == k
        if own.any() and not own.all():
            found[k] = auroc(scores[:, k], own)
    return found


def _numbers(values: ArrayLike, classes: int, what: str) -> NDArray[np.int64]:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise DataError(f"The {what} must be one whole number for each sample.")
    if numbers.size == 0:
        raise DataError(f"There is nothing to judge: the {what} is empty.")
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"The {what} holds the number {low if low < 0 else high}, but there are {classes} "
            "classes, counted from 0."
        )
    return numbers.astype(np.int64)
