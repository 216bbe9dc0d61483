"""Conformal p-values and thresholds from held-out normals, and calibrated probabilities.

With ``n`` calibration normals exchangeable with the normal parts to come, a normal part has a
p-value of at most ``a`` with probability at most ``a``, for every ``n`` and every detector. That is
an average over calibrations. One calibration, once made, has a false-alarm rate of its own: where
the threshold is the k-th largest score, it is at most a draw from Beta(k, n + 1 - k), and exactly
one where scores do not tie. ``confident_rate`` is a quantile of that distribution.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.metrics import metric
from chiasm.metrics.binomial import beta_quantile, binomial_tail

# Absorbs the rounding of rate * (n + 1), as in 0.29 * 100 < 29.
_ROUNDING = 1e-9


@metric()
def conformal_p_value(scores: ArrayLike, calibration: ArrayLike) -> NDArray[np.float64]:
    """Return the conformal p-value of each score.

    ``p = (1 + #{calibration >= score}) / (n + 1)``.

    Args:
        scores: any shape, larger is more anomalous, no NaN.
        calibration: ``(n,)`` scores of normals that were used neither to train nor to select.

    Returns:
        float64 in (0, 1], same shape as ``scores``; small is suspicious.

    Raises:
        SplitError: there is no calibration score.
        DataError: a score is NaN.

    References:
        Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005, section 2.2; Bates
        et al., Testing for outliers with conformal p-values, Annals of Statistics 2023.

    Example:
        >>> conformal_p_value([5.0, 2.0], [1.0, 2.0, 3.0]).tolist()
        [0.25, 0.75]
    """
    normals = _calibration(calibration)
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise DataError("A score is NaN and has no p-value; check the model that produced it.")
    above = normals.size - np.searchsorted(normals, values, side="left")
    return np.asarray((1 + above) / (normals.size + 1))


@lru_cache(maxsize=256)
def alarm_rank(normals: int, false_alarm_rate: float, confidence: float | None = None) -> int:
    """Return the rank ``k`` of the threshold: scores above the k-th largest of ``n`` are alarms.

    Without ``confidence`` it is ``floor(rate (n + 1))``: on average over calibrations, at most the
    rate of the normal parts alarm. With it, it is the largest ``k``, up to that one, for which the
    rate of *this* calibration is at most ``false_alarm_rate`` in a share ``confidence`` of all
    calibrations. 0 where no score can promise it.

    Args:
        normals: calibration scores, ``n``.
        false_alarm_rate: in (0, 1).
        confidence: in (0, 1).

    Raises:
        ConfigurationError: rate or confidence is not in (0, 1).

    References:
        Vovk, Conditional Validity of Inductive Conformal Predictors, ACML 2012;
        Angelopoulos and Bates, A Gentle Introduction to Conformal Prediction, 2021, section 3.2.

    Example:
        >>> alarm_rank(99, 0.05), alarm_rank(99, 0.05, 0.9), alarm_rank(40, 0.05, 0.9)
        (5, 2, 0)
    """
    _check_rate(false_alarm_rate)
    rank = min(math.floor(false_alarm_rate * (normals + 1) + _ROUNDING), normals)
    if confidence is None:
        return rank
    _check_confidence(confidence)
    if rank == 0:
        return 0
    # Where the rate has at least k alarms with this confidence, a threshold of rank k keeps it. The
    # probability falls with the rank, so that their number is the largest.
    sure = binomial_tail(normals, false_alarm_rate * (1 + _ROUNDING))[:rank]
    return int(np.count_nonzero(sure >= confidence))


def rate_bound(normals: int, rank: int, confidence: float) -> float:
    """Return the false-alarm rate that a calibration keeps with a confidence, in [0, 1].

    Args:
        normals: calibration scores, ``n``.
        rank: of the threshold among them, see ``alarm_rank``; 0 where nothing alarms.
        confidence: share of calibrations whose rate is at most the bound, in (0, 1).

    Raises:
        ConfigurationError: the confidence is not in (0, 1).
    """
    _check_confidence(confidence)
    return 0.0 if rank == 0 else beta_quantile(normals, rank, confidence)


def confident_rate(normals: int, false_alarm_rate: float, confidence: float = 0.9) -> float:
    """Return what a rate promised on average is at most with a confidence, once calibrated.

    Of calibrations by ``n`` exchangeable normals whose threshold is ``conformal_threshold`` at
    ``false_alarm_rate``, a share ``confidence`` has a rate of at most this.

    Args:
        normals: calibration scores, ``n``.
        false_alarm_rate: promised on average, in (0, 1).
        confidence: in (0, 1).

    Returns:
        The quantile of Beta(k, n + 1 - k); 0 where too few normals promise nothing and no part
        alarms.

    Raises:
        ConfigurationError: rate or confidence is not in (0, 1).

    Example:
        >>> round(confident_rate(40, 0.05), 3)
        0.094
    """
    return rate_bound(normals, alarm_rank(normals, false_alarm_rate), confidence)


def normals_needed(false_alarm_rate: float, confidence: float | None = None) -> int:
    """Return the fewest calibration normals that can promise a false-alarm rate.

    Args:
        false_alarm_rate: in (0, 1).
        confidence: with which it is promised; None promises it on average over calibrations.

    Raises:
        ConfigurationError: rate or confidence is not in (0, 1).

    Example:
        >>> normals_needed(0.01), normals_needed(0.05, 0.9)
        (99, 45)
    """
    _check_rate(false_alarm_rate)
    on_average = math.ceil(1.0 / false_alarm_rate - _ROUNDING) - 1
    if confidence is None:
        return on_average
    _check_confidence(confidence)
    # The largest of n normals is exceeded at a rate of at most r in a share 1 - (1 - r)^n.
    count = max(
        on_average, math.ceil(math.log1p(-confidence) / math.log1p(-false_alarm_rate) - _ROUNDING)
    )
    return count if alarm_rank(count, false_alarm_rate, confidence) else count + 1


@metric()
def conformal_threshold(
    calibration: ArrayLike, false_alarm_rate: float, confidence: float | None = None
) -> float:
    """Return the threshold above which a score raises an alarm.

    Without ``confidence``, ``score > threshold`` exactly where ``conformal_p_value`` is at most the
    rate. A new normal part raises an alarm with probability at most the rate, and more than the
    rate minus ``1 / (n + 1)`` where no two scores tie, on average over calibrations. With it, that
    probability is at most the rate in a share ``confidence`` of calibrations; alarms are then the
    scores with a p-value of at most ``k / (n + 1)``, which is below the rate.

    Args:
        calibration: ``(n,)`` scores of held-out normals.
        false_alarm_rate: in (0, 1).
        confidence: in (0, 1); None promises the rate on average.

    Returns:
        The k-th largest calibration score, ``k`` of ``alarm_rank``.

    Raises:
        SplitError: fewer than ``normals_needed``, so that no threshold can promise it.
        ConfigurationError: rate or confidence is not in (0, 1).
        DataError: a calibration score is NaN.

    Example:
        >>> conformal_threshold(range(1, 100), 0.01)
        99.0
        >>> conformal_threshold(range(1, 100), 0.05), conformal_threshold(range(1, 100), 0.05, 0.9)
        (95.0, 98.0)
    """
    normals = np.sort(np.asarray(calibration, dtype=np.float64).ravel())
    rank = alarm_rank(normals.size, false_alarm_rate, confidence)
    if rank == 0:
        raise SplitError(_too_few(normals.size, false_alarm_rate, confidence))
    return float(_calibration(normals)[-rank])


def rounded_up(value: float, digits: int = 3) -> float:
    """Round a positive bound to significant digits so that it stays a bound.

    Example:
        >>> rounded_up(1 / 12), rounded_up(0.05)
        (0.0834, 0.05)
    """
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return float(f"{math.ceil(value / step - _ROUNDING) * step:.{digits}g}")


def _too_few(normals: int, rate: float, confidence: float | None) -> str:
    needed = normals_needed(rate, confidence)
    least = 1 / (normals + 1)
    with_confidence = ""
    if confidence is not None:
        least = max(least, rate_bound(normals, 1, confidence)) if normals else least
        with_confidence = f" with a confidence of {confidence:g}"
    sentence = (
        f"There are {normals} calibration normals, and a false-alarm rate of {rate:g}"
        f"{with_confidence} needs at least {needed}. Hold out {needed - normals} more good parts "
        "for calibration"
    )
    return sentence + (
        f", or ask for a rate of at least {rounded_up(least):g}." if normals else "."
    )


@metric()
def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the Brier score: the mean squared error of probabilities.

    Args:
        probabilities: ``(N,)`` probability of outcome 1, or ``(N, K)`` of each class.
        outcomes: ``(N,)`` 0/1, or class numbers below K.

    Returns:
        In [0, 1] for ``(N,)``; for ``(N, K)`` the sum over classes, in [0, 2]; nan without samples.

    Raises:
        DataError: shapes differ, a probability is outside [0, 1], or an outcome is no class.

    References:
        Brier, Verification of forecasts expressed in terms of probability, 1950.

    Example:
        >>> brier([1.0, 0.5], [1, 0])
        0.125
    """
    predicted, truth = _predictions(probabilities, outcomes)
    if predicted.size == 0:
        return float("nan")
    if predicted.ndim == 1:
        return float(np.mean((predicted - truth) ** 2))
    return float(np.mean(np.sum((predicted - np.eye(predicted.shape[1])[truth]) ** 2, axis=1)))


def _calibration(calibration: ArrayLike) -> NDArray[np.float64]:
    """Return the calibration scores in rising order."""
    normals = np.sort(np.asarray(calibration, dtype=np.float64).ravel())
    if normals.size == 0:
        raise SplitError("There are no calibration normals; hold out good parts for calibration.")
    if np.isnan(normals).any():
        raise DataError(
            f"{int(np.isnan(normals).sum())} of {normals.size} calibration scores are NaN; find "
            "out where the model produced them."
        )
    return normals


def _check_rate(rate: float) -> None:
    if not 0.0 < rate < 1.0:
        raise ConfigurationError(
            f"A false-alarm rate of {rate} is not between 0 and 1; 0.05, say, means that one good "
            "part in twenty raises an alarm."
        )


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ConfigurationError(
            f"A confidence of {confidence} is not between 0 and 1; 0.9, say, means that nine "
            "calibrations in ten keep their false-alarm rate."
        )


def _predictions(
    probabilities: ArrayLike, outcomes: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities and outcomes of one length, values checked."""
    predicted = np.asarray(probabilities, dtype=np.float64)
    observed = np.asarray(outcomes)
    if predicted.ndim not in (1, 2) or observed.ndim != 1 or len(predicted) != len(observed):
        raise DataError(
            f"Probabilities of shape {predicted.shape} do not fit outcomes of shape "
            f"{observed.shape}; give (N,) or (N, K) probabilities and (N,) outcomes."
        )
    if not np.all((predicted >= 0.0) & (predicted <= 1.0)):
        raise DataError("A probability lies outside [0, 1]; apply softmax or sigmoid first.")
    truth = observed.astype(np.int64)
    classes = predicted.shape[1] if predicted.ndim == 2 else 2
    if not np.array_equal(truth, observed) or np.any((truth < 0) | (truth >= classes)):
        raise DataError(f"An outcome is not one of the classes 0 to {classes - 1}.")
    return predicted, truth


def softmax(logits: ArrayLike, *, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities ``(N, K)`` of logits ``(N, K)`` divided by a temperature."""
    return np.exp(_log_softmax(np.asarray(logits, np.float64) / temperature))


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise along the last axis, in the steps of SciPy, whose results earlier versions gave."""
    largest = scores.max(axis=-1, keepdims=True)
    shifted = scores - np.where(np.isfinite(largest), largest, 0.0)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def log_loss(logits: ArrayLike, truth: ArrayLike, *, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of the true classes, nats.

    Args:
        logits: ``(N, K)``.
        truth: ``(N,)`` class numbers.
        temperature: divides the logits.
    """
    scores, labels = np.asarray(logits, np.float64), np.asarray(truth, np.int64)
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise DataError(
            f"One row of logits is needed for each label, not {scores.shape} for {len(labels)}."
        )
    log_probabilities = _log_softmax(scores / temperature)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def fit_temperature(
    logits: ArrayLike, truth: ArrayLike, *, bounds: tuple[float, float] = (0.05, 20.0)
) -> float:
    """Return the temperature that minimises the log loss; above 1 the model is over-confident.

    A temperature never changes a decision. Fit it on validation data, never on reported data.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, Section 4.2.
    """
    from scipy.optimize import minimize_scalar  # not needed where only softmax is

    low, high = np.log(bounds)
    minimum = minimize_scalar(
        lambda t: log_loss(logits, truth, temperature=float(np.exp(t))),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(minimum.x))


@metric(version=2)
def equal_mass_calibration_error(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal mass; in [0, 1].

    The figure does not depend on the order of the samples: see ``ordered_by_confidence``.

    References:
        Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015;
        Nguyen and O'Connor, EMNLP 2015 (bins of equal mass).
    """
    confidence, accuracy = ordered_by_confidence(probabilities, truth)
    gaps = [
        abs(float(confidence[part].mean() - accuracy[part].mean())) * len(part)
        for part in np.array_split(np.arange(len(confidence)), min(bins, len(confidence)))
        if len(part)
    ]
    return sum(gaps) / len(confidence)


def ordered_by_confidence(
    probabilities: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return confidences ``(N,)``, rising, and the accuracy at each confidence ``(N,)``.

    Tied samples share the mean accuracy of their tie, because the edge of a bin may fall inside
    it: in input order one class could fill one bin, and a constant prediction that is calibrated
    would have an error.

    Args:
        probabilities: ``(N, K)``.
        truth: ``(N,)`` class numbers.

    Raises:
        DataError: shapes do not fit, a probability is outside [0, 1], or a number is no class.
    """
    p, labels = _predictions(probabilities, truth)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    values, tie, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    accuracies = np.bincount(tie, weights=correct, minlength=len(values)) / counts
    return np.repeat(values, counts), np.repeat(accuracies, counts)
