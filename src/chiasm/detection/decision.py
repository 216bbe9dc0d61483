"""From a score to a verdict on a part: alarm threshold, conformal p-value and decision.

The predictor, the runtime, the comparison of exported models, the service and the reports all call
these functions. Scores of held-out normals, the calibration scores, give a score its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.detection.preparation.prepare import paste, paste_mask
from chiasm.errors import ChiasmError, DataError
from chiasm.metrics.calibration import conformal_p_value, conformal_threshold, normals_needed
from chiasm.samples import AnomalyMap, FloatArray, PreparedSample, RGBDSample, Verdict

Scores = Sequence[float] | NDArray[np.float64]


def alarm_threshold(calibration_scores: Scores, false_alarm_rate: float) -> float | None:
    """Return the score above which a part is defective.

    None where there are too few calibration scores to promise the false-alarm rate: then no part
    is called defective.

    Raises:
        ConfigurationError: there are calibration scores and the rate is not in (0, 1).
        DataError: a calibration score is NaN.

    Example:
        >>> alarm_threshold([1.0, 2.0, 3.0], 0.25)
        3.0
        >>> alarm_threshold([1.0, 2.0, 3.0], 0.05) is None
        True
    """
    count = len(calibration_scores)
    if count == 0 or count < normals_needed(false_alarm_rate):
        return None
    return conformal_threshold(calibration_scores, false_alarm_rate)


def display_threshold(calibration_scores: Scores, false_alarm_rate: float) -> float:
    """Return the alarm threshold as a number, for heat maps and for the unit of a difference.

    The largest calibration score stands in where ``alarm_threshold`` is None, and 0 where there is
    no calibration score. No decision is made by it.
    """
    threshold = alarm_threshold(calibration_scores, false_alarm_rate)
    return float(max(calibration_scores, default=0.0)) if threshold is None else threshold


def decide(
    scores: ArrayLike, calibration_scores: ArrayLike, false_alarm_rate: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return p-values in (0, 1] and decisions of scores of any shape.

    A part is defective where its p-value is at most the false-alarm rate; with enough calibration
    scores that is where its score is above ``alarm_threshold``.

    Raises:
        SplitError: there is no calibration score.
        DataError: a score is NaN.
    """
    p_values = conformal_p_value(scores, calibration_scores)
    return p_values, p_values <= false_alarm_rate


def verdict_on(
    part: PreparedSample,
    crop_scores: FloatArray,
    score: float,
    *,
    calibration_scores: Scores,
    false_alarm_rate: float,
) -> Verdict:
    """Return the verdict on one part; without calibration scores it has no p-value or decision.

    Args:
        part: prepared.
        crop_scores: ``(S, S)`` scores of its crop.
        score: image-level.
        calibration_scores: of the model.
        false_alarm_rate: at which the model decides.

    Raises:
        DataError: the score is not finite.
    """
    if not math.isfinite(score):
        raise DataError(f"{part.source or 'This part'} has no finite score; is the input sound?")
    p_value, defective = math.nan, None
    if len(calibration_scores):
        p_values, decisions = decide([score], calibration_scores, false_alarm_rate)
        p_value, defective = float(p_values[0]), bool(decisions[0])
    anomaly_map = AnomalyMap(
        scores=paste(crop_scores, part.box),
        foreground=paste_mask(part.foreground, part.box),
        image_score=score,
        source=part.source,
    )
    return Verdict(part.source, score, p_value, defective, anomaly_map, notes=part.notes)


def failed_verdict(source: str, error: ChiasmError) -> Verdict:
    """Return the verdict on a part that could not be scored."""
    return Verdict(source, math.nan, math.nan, None, error=str(error))


def predict_each(
    predict: Callable[[RGBDSample], Verdict],
    samples: Iterable[RGBDSample | tuple[str, RGBDSample | ChiasmError]],
) -> Iterator[Verdict]:
    """Predict one verdict a sample; a ``ChiasmError`` becomes a verdict with ``error``.

    Args:
        predict: of a model.
        samples: samples, or pairs of a source and its sample or the error at reading it.
    """
    for item in samples:
        source, sample = item if isinstance(item, tuple) else (item.source, item)
        try:
            if isinstance(sample, ChiasmError):
                raise sample
            yield predict(sample)
        except ChiasmError as error:
            yield failed_verdict(source, error)
