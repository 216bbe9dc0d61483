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

    References:
        Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015;
        Nguyen and O'Connor, EMNLP 2015 (bins of equal mass).
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(float(confidence[part].mean() - right[part].mean())) * len(part)
        for part in np.array_split(order, min(bins, len(order)))
        if len(part)
    ]
    return sum(gaps) / len(labels)
