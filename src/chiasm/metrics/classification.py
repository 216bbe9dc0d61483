"""Figures of decisions between several classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import DataError
from chiasm.metrics import metric
from chiasm.metrics.ranking import auroc


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Figures of each class, ``(K,)``; NaN for a class without a sample.

    Attributes:
        precision: share of correct predictions of the class; 0 where it was never predicted.
        recall: share of the class's samples that were predicted as it.
        f1: harmonic mean of both.
        support: number of samples.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix ``(K, K)``; rows are the truth.

    Args:
        truth, predicted: ``(N,)`` class numbers in [0, classes).
        classes: K.

    Raises:
        DataError: lengths differ, or a number is out of range.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    rows, columns = _decisions(truth, predicted, classes)
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Return precision, recall and F1 of each class from a confusion matrix ``(K, K)``.

    Example:
        >>> class_scores([[1, 1], [0, 1]]).f1.round(3).tolist()
        [0.667, 0.667]
    """
    matrix = np.asarray(confusion, np.float64)
    correct, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    present = np.where(support > 0, 1.0, np.nan)
    precision = present * correct / np.maximum(predicted, 1)
    recall = present * correct / np.maximum(support, 1)
    f1 = present * 2 * correct / np.maximum(support + predicted, 1)
    return ClassScores(precision, recall, f1, support.astype(np.int64))


@metric()
def macro_f1(truth: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Return the mean F1 over the classes that occur in the truth; in [0, 1].

    A class without a sample has no F1 and does not count; a false prediction of it lowers the F1 of
    the true class.
    """
    return float(np.nanmean(class_scores(confusion_matrix(truth, predicted, classes)).f1))


@metric()
def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of correct decisions, in [0, 1]; ``(N,)`` class numbers."""
    rows, columns = _decisions(truth, predicted, np.iinfo(np.int64).max)
    return float((rows == columns).mean())


@metric()
def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Return the mean recall over the classes that occur in the truth; 1 / K by chance."""
    return float(np.nanmean(class_scores(confusion_matrix(truth, predicted, classes)).recall))


@metric()
def one_vs_rest_auroc(probabilities: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Return the AUROC of each class against all others, ``(K,)``.

    NaN for a class that is absent or the only one.

    Args:
        probabilities: ``(N, K)``; or logits.
        truth: ``(N,)`` class numbers.
    """
    scores = np.asarray(probabilities, np.float64)
    if scores.ndim != 2:
        raise DataError(f"Probabilities must be (samples, classes), not {scores.shape}.")
    labels = _numbers(truth, scores.shape[1], "truth")
    areas = np.full(scores.shape[1], np.nan)
    for k in range(scores.shape[1]):
        positive = labels == k
        if positive.any() and not positive.all():
            areas[k] = auroc(scores[:, k], positive)
    return areas


def _decisions(
    truth: ArrayLike, predicted: ArrayLike, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = _numbers(truth, classes, "truth"), _numbers(predicted, classes, "predictions")
    if len(rows) != len(columns):
        raise DataError(f"There are {len(rows)} labels, but {len(columns)} predictions.")
    return rows, columns


def _numbers(values: ArrayLike, classes: int, noun: str) -> NDArray[np.int64]:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise DataError(f"The {noun} must be one whole number for each sample.")
    if numbers.size == 0:
        raise DataError(f"Figures need at least one sample: the {noun} is empty.")
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"The {noun} holds the number {low if low < 0 else high}, but there are {classes} "
            "classes, counted from 0."
        )
    return numbers.astype(np.int64)
