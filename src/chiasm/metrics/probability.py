"""Probabilities from logits, and how far they can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from chiasm.errors import DataError


def softmax(logits: ArrayLike, *, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities ``(N, K)`` of logits ``(N, K)`` divided by a temperature."""
    return np.exp(log_softmax(np.asarray(logits, np.float64) / temperature, axis=-1))


def log_loss(logits: ArrayLike, truth: ArrayLike, *, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the true classes, nats.

    Args:
        logits: ``(N, K)``.
        truth: ``(N,)`` class numbers.
        temperature: by which logits are divided.
    """
    scores, labels = np.asarray(logits, np.float64), np.asarray(truth, np.int64)
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise DataError(
            f"One row of logits is needed for each label, not {scores.shape} for {len(labels)}."
        )
    chances = log_softmax(scores / temperature, axis=1)
    return float(-chances[np.arange(len(labels)), labels].mean())


def fit_temperature(
    logits: ArrayLike, truth: ArrayLike, *, bounds: tuple[float, float] = (0.05, 20.0)
) -> float:
    """The temperature that makes the true classes most likely; above 1 a model is over-confident.

    Never changes a decision. Fit it on validation data, not on those that are reported.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, Section 4.2.
    """
    from scipy.optimize import minimize_scalar  # not needed where only softmax is

    low, high = np.log(bounds)
    found = minimize_scalar(
        lambda t: log_loss(logits, truth, temperature=float(np.exp(t))),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def equal_mass_calibration_error(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = 15
) -> float:
    """Gap between confidence and accuracy, mean over bins that hold equally many; in [0, 1].

    The order of the recordings has no say: see ``ordered_by_confidence``.

    References:
        Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015;
        Nguyen and O'Connor, EMNLP 2015 (bins of equal mass).
    """
    confidence, right = ordered_by_confidence(probabilities, truth)
    gaps = [
        abs(float(confidence[part].mean() - right[part].mean())) * len(part)
        for part in np.array_split(np.arange(len(right)), min(bins, len(right)))
        if len(part)
    ]
    return sum(gaps) / len(right)


def ordered_by_confidence(
    probabilities: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidences ``(N,)``, rising, and how often guesses of that confidence are right ``(N,)``.

    Recordings that tie share the mean of their tie, for a bin's edge may fall inside it: by the
    order they come in, those of one class would stand in one bin, and a constant guess that is
    right as often as it says would seem far from it.

    Args:
        probabilities: ``(N, K)``.
        truth: ``(N,)`` class numbers.
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    stated, right = p.max(axis=1), p.argmax(axis=1) == labels
    values, place, many = np.unique(stated, return_inverse=True, return_counts=True)
    shares = np.bincount(place, weights=right, minlength=len(values)) / many
    return np.repeat(values, many), np.repeat(shares, many)
