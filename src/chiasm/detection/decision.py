"""From a score to a verdict on a part: alarm threshold, conformal p-value and decision.

The predictor, the runtime, the comparison of exported models, the service and the reports all call
these functions. Scores of held-out normals, the calibration scores, give a score its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.detection.preparation.prepare import paste, paste_mask
from chiasm.errors import ChiasmError, ConfigurationError, DataError
from chiasm.metrics.calibration import (
    alarm_rank,
    conformal_p_value,
    conformal_threshold,
    normals_needed,
    rate_bound,
    rounded_up,
)
from chiasm.metrics.known_defects import KnownDefects
from chiasm.samples import AnomalyMap, FloatArray, PreparedSample, RGBDSample, Verdict

Scores = Sequence[float] | NDArray[np.float64]

CONFIDENCE = 0.9  # with which a bound is said where the model promises its rate on average


@dataclass(frozen=True, slots=True, eq=False)
class AlarmRule:
    """How scores become decisions, and what is promised of them.

    A part is defective where its score is above the k-th largest calibration score, that is where
    its p-value is at most ``k / (n + 1)``. The p-value is the conformal one in both ways to choose
    ``k``: a normal part has one of at most ``a`` with probability at most ``a``, on average over
    calibrations. Without a confidence ``k`` is the largest for which that average keeps the
    false-alarm rate, so that decisions are those of "p-value at most the rate". With one, ``k`` is
    smaller, and a p-value between ``k / (n + 1)`` and the rate is no alarm.

    Attributes:
        calibration_scores: of normals.
        false_alarm_rate: that is promised; NaN of a model without calibration scores.
        confidence: share of calibrations whose own rate is at most ``false_alarm_rate``; None
            promises it on average over calibrations.
        folds: of a cross calibration, in which all training normals calibrate; 0 where the
            calibration normals were held out of the training.
        known_defects: that chose the threshold instead of the rate; None where the rate did.
    """

    calibration_scores: Scores
    false_alarm_rate: float
    confidence: float | None
    folds: int = 0
    known_defects: KnownDefects | None = None

    def __post_init__(self) -> None:
        """Refuse a confidence that has no ground.

        Raises:
            ConfigurationError: a cross calibration is to promise a rate with a confidence.
        """
        if self.folds and self.confidence is not None:
            raise ConfigurationError(
                f"A rate cannot be promised with a confidence of {self.confidence:g} after a cross "
                "calibration: its scores come from models that share their training parts, and are "
                "not independent. Leave the confidence out, or hold out parts (calibration=split)."
            )

    @property
    def rank(self) -> int:
        """Rank ``k`` of the threshold among the calibration scores; 0 where there is none.

        Raises:
            ConfigurationError: there are calibration scores, and the rate or the confidence is not
                in (0, 1).
        """
        count = len(self.calibration_scores)
        return alarm_rank(count, self.false_alarm_rate, self.confidence) if count else 0

    @property
    def decides(self) -> bool:
        """Whether parts are decided on: by known defects, or by a rate that can be promised."""
        return self.known_defects is not None or self.rank > 0

    @property
    def promised_rate(self) -> float:
        """The false-alarm rate that the threshold promises; NaN where known defects chose it."""
        return self.false_alarm_rate if self.known_defects is None else math.nan

    @property
    def threshold(self) -> float | None:
        """Score above which a part is defective.

        None where there are too few calibration scores to promise the rate: then no part is decided
        on.

        Raises:
            DataError: a calibration score is NaN.

        Example:
            >>> AlarmRule([1.0, 2.0, 3.0], 0.25, None).threshold
            3.0
            >>> AlarmRule([1.0, 2.0, 3.0], 0.05, None).threshold is None
            True
        """
        if self.known_defects is not None:
            return self.known_defects.threshold
        rank = self.rank
        if rank == 0:
            return None
        scores = np.sort(np.asarray(self.calibration_scores, np.float64))
        if np.isnan(scores[-1]):  # sorted last
            raise DataError("A calibration score is NaN; calibrate the model again.")
        return float(scores[-rank])

    @property
    def display_threshold(self) -> float:
        """The threshold as a number, for heat maps and for the unit of a difference.

        The largest calibration score stands in where there is no threshold, and 0 where there is
        no calibration score. No decision is made by it.
        """
        threshold = self.threshold
        return float(max(self.calibration_scores, default=0.0)) if threshold is None else threshold

    @property
    def confident_rate(self) -> float:
        """Rate that this calibration keeps with ``confidence``, or with 90 % where that is None.

        Of the threshold's rank, so that it is at most ``false_alarm_rate`` where that is promised
        with a confidence. NaN of a cross calibration, whose scores are not independent.
        """
        if self.folds:
            return math.nan
        return rate_bound(len(self.calibration_scores), self.rank, self.confidence or CONFIDENCE)

    @property
    def promise(self) -> str:
        """What is promised of false alarms, as a sentence.

        Example:
            >>> AlarmRule(range(40), 0.05, None).promise
            'False alarms: on average at most 5 %, with 90 % confidence at most 9.4 % (40 normals).'
        """
        count = len(self.calibration_scores)
        if self.known_defects is not None:
            return self._promise_by_defects(self.known_defects)
        if count == 0:
            return "No part is decided on: there are no calibration scores."
        rate = percent(rounded_up(self.false_alarm_rate))
        if self.rank == 0:
            needed = normals_needed(self.false_alarm_rate, self.confidence)
            sure = "" if self.confidence is None else f" with {percent(self.confidence)} confidence"
            return (
                f"Nothing is promised of false alarms at {rate}{sure}: {count} calibration normals "
                f"are too few, {needed} are needed. Parts have a score and no decision. "
                f"{self.remedy}"
            )
        if self.folds:
            return (
                f"False alarms: on average about {rate} ({count} normals in {self.folds} folds); "
                "no bound with a confidence."
            )
        bound = percent(rounded_up(self.confident_rate, 2))
        sure = f"with {percent(self.confidence or CONFIDENCE)} confidence at most"
        if self.confidence is None:
            return f"False alarms: on average at most {rate}, {sure} {bound} ({count} normals)."
        average = percent(rounded_up(self.rank / (count + 1), 2))
        return f"False alarms: {sure} {rate}, on average at most {average} ({count} normals)."

    def _promise_by_defects(self, known: KnownDefects) -> str:
        count = len(self.calibration_scores)
        above = sum(score > known.threshold for score in self.calibration_scores)
        alarms = f"No false-alarm rate is promised: {above} of {count} calibration normals alarm."
        if known.miss_rate is not None:
            return (
                f"The threshold is chosen by {len(known.defects)} known defects: on average at "
                f"most {percent(rounded_up(known.miss_rate))} of defects like these are missed. "
                f"{alarms}"
            )
        return (
            f"The threshold is the one of the best F1 ({known.f1:g}) on {len(known.defects)} known "
            f"defects, of which it misses {known.missed}, and {count} calibration normals. On the "
            f"parts that chose it, figures look better than on others. {alarms}"
        )

    @property
    def remedy(self) -> str:
        """How parts get a decision where too few calibration scores promise the rate, or "".

        Example:
            >>> AlarmRule([1.0, 2.0, 3.0], 0.05, None).remedy  # doctest: +ELLIPSIS
            "These normals can promise 25 %: 'chiasm threshold ... --false-alarm-rate 0.25'. ..."
        """
        count = len(self.calibration_scores)
        if count == 0 or self.decides:
            return ""
        least = 1 / (count + 1)
        if self.confidence is not None:
            least = max(least, rate_bound(count, 1, self.confidence))
        least = rounded_up(least)
        return (
            f"These normals can promise {percent(least)}: 'chiasm threshold MODEL "
            f"--false-alarm-rate {least:g}'. For less, train again with more good parts."
        )

    @property
    def undecided(self) -> str:
        """Why no part is decided on, as a sentence; "" where parts are."""
        if self.decides:
            return ""
        return (
            f"Undecided: {len(self.calibration_scores)} calibration normals are too few for a "
            f"false-alarm rate of {percent(self.false_alarm_rate)}."
        )

    def require(self) -> AlarmRule:
        """Return the rule where it promises something.

        Raises:
            SplitError: there are too few calibration scores; it says how many are needed.
            DataError: a calibration score is NaN.
        """
        if self.known_defects is None:
            conformal_threshold(self.calibration_scores, self.false_alarm_rate, self.confidence)
        return self

    def decide(self, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return p-values in (0, 1] and decisions of scores of any shape.

        A decision is made by rank, so that it is the comparison with ``threshold`` to the bit.

        Raises:
            SplitError: there is no calibration score.
            DataError: a score is NaN.
        """
        p_values = conformal_p_value(scores, self.calibration_scores)
        if self.known_defects is not None:
            return p_values, np.asarray(np.asarray(scores) > self.known_defects.threshold)
        # P-values are multiples of 1 / (n + 1); half a step keeps their rounding out of it.
        limit = (self.rank + 0.5) / (len(self.calibration_scores) + 1)
        return p_values, np.asarray(p_values < limit)


def percent(share: float) -> str:
    """Format as ``5 %``, without an exponent; a confidence of 0.9999 is not rounded to 100 %.

    Example:
        >>> percent(0.05), percent(0.0125), percent(0.9999)
        ('5 %', '1.25 %', '99.99 %')
    """
    return f"{100 * share:.6g} %"


def verdict_on(
    part: PreparedSample,
    crop_scores: FloatArray,
    score: float,
    *,
    rule: AlarmRule,
) -> Verdict:
    """Return the verdict on one part; without calibration scores it has no p-value or decision.

    With fewer scores than the rate needs it has a p-value and no decision: to call every part good
    would look like a promise.

    Args:
        part: prepared.
        crop_scores: ``(S, S)`` scores of its crop.
        score: image-level.
        rule: of the model.

    Raises:
        DataError: the score is not finite.
    """
    if not math.isfinite(score):
        raise DataError(f"{part.source or 'This part'} has no finite score; is the input sound?")
    p_value, defective = math.nan, None
    if len(rule.calibration_scores):
        p_values, decisions = rule.decide([score])
        p_value, defective = float(p_values[0]), bool(decisions[0]) if rule.decides else None
    anomaly_map = AnomalyMap(
        scores=paste(crop_scores, part.box),
        foreground=paste_mask(part.foreground, part.box),
        image_score=score,
        source=part.source,
        plane=part.plane,
    )
    notes = part.notes
    if defective is None and len(rule.calibration_scores):
        notes = (*notes, rule.undecided)
    return Verdict(
        part.source,
        score,
        p_value,
        defective,
        anomaly_map,
        notes=notes,
        threshold=rule.threshold,
    )


def frame_verdict(verdicts: Sequence[Verdict], *, source: str) -> Verdict:
    """Return the verdict on a frame with several parts: that of its worst part, with all of them.

    A frame is good where all its parts are. The false-alarm rate is promised of each part.

    Args:
        verdicts: of the parts, with sources ``FILE#1`` and so on; of the same frame.
        source: of the frame.
    """
    judged = [verdict for verdict in verdicts if not verdict.error]
    if not judged:
        return replace(verdicts[0], source=source, parts=tuple(verdicts))
    worst = max(judged, key=lambda verdict: verdict.score)
    decisions = [verdict.defective for verdict in verdicts]
    defective = True if True in decisions else None if None in decisions else False
    words = {True: "defective", False: "good", None: "undecided"}
    said = ", ".join(
        f"#{number} {'not judged' if verdict.error else words[verdict.defective]}"
        for number, verdict in enumerate(verdicts, 1)
    )
    notes = [note for verdict in verdicts for note in verdict.notes]
    notes += [verdict.error for verdict in verdicts if verdict.error]
    maps = [verdict.anomaly_map for verdict in judged if verdict.anomaly_map is not None]
    anomaly_map = None
    if maps:
        anomaly_map = AnomalyMap(
            scores=np.maximum.reduce([each.scores for each in maps]),
            foreground=np.logical_or.reduce([each.foreground for each in maps]),
            image_score=worst.score,
            source=source,
            plane=maps[0].plane,
        )
    regions = [region for verdict in verdicts for region in verdict.regions]
    return Verdict(
        source,
        worst.score,
        worst.p_value,
        defective,
        anomaly_map,
        threshold=worst.threshold,
        regions=tuple(sorted(regions, key=lambda region: -region.peak)),
        pixel_threshold=worst.pixel_threshold,
        notes=(f"{len(verdicts)} parts in the frame: {said}.", *dict.fromkeys(notes)),
        parts=tuple(verdicts),
    )


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
