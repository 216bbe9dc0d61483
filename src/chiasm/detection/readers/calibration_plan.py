"""Which good parts calibrate, where these are few, and which false-alarm rate they can promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.detection.readers.splits import Split, make_splits
from chiasm.metrics.calibration import alarm_rank, normals_needed, rate_bound, rounded_up

CalibrationMode = Literal["auto", "split", "cross"]
FALSE_ALARM_RATE = 0.05  # that a training promises by default
LEAST_TRAINING = 5  # good parts that a training keeps where the calibration needs many


@dataclass(frozen=True, slots=True)
class Promise:
    """The false-alarm rate that is asked for.

    Attributes:
        rate: in (0, 1).
        confidence: with which a calibration keeps it; None promises it on average.
    """

    rate: float
    confidence: float | None = None

    @property
    def needed(self) -> int:
        """The fewest calibration normals that can promise it."""
        return normals_needed(self.rate, self.confidence)

    def kept_by(self, normals: int) -> bool:
        """Whether so many calibration normals can promise it."""
        return normals > 0 and alarm_rank(normals, self.rate, self.confidence) > 0

    def least(self, normals: int) -> float:
        """Return the least rate that so many calibration normals can promise, rounded up."""
        least = 1 / (normals + 1)
        if self.confidence is not None and normals:
            least = max(least, rate_bound(normals, 1, self.confidence))
        return rounded_up(least)


def plan_split(
    source: SampleSource,
    promise: Promise,
    *,
    mode: CalibrationMode,
    pools_scores: Callable[[], bool],
    calibration_share: float,
    shots: int | None = None,
    seed: int = 0,
) -> Split:
    """Divide a source so that its calibration normals can promise the rate, where they can.

    ``split`` and ``cross`` are as in ``make_splits``. ``auto`` is ``split`` where that calibrates
    with enough normals. Else all normals train and calibrate, for a model whose fits pool their
    scores; for another one more training normals are held out, as long as ``LEAST_TRAINING`` are
    left. Where no division keeps the promise, a source with a validation split is divided as it
    says; without one, the scores of all normals are pooled, or half of them are held out.

    Args:
        source: of the parts.
        promise: that is asked for.
        mode: of the run's settings.
        pools_scores: tells whether scores of several fits of the model can be pooled; asked only
            where it matters, as the model is built for it.
        calibration_share: of the training normals, for data without a validation split.
        shots: number of training normals; None takes all.
        seed: of the draws.

    Raises:
        SplitError: as ``make_splits``.
    """

    def divided(*, cross: bool = False, aside: int | None = None) -> Split:
        return make_splits(
            source,
            shots=shots,
            calibration_share=calibration_share,
            seed=seed,
            cross=cross,
            aside=aside,
        )

    if mode == "cross":
        return divided(cross=True)
    normals, validation = normals_of(source.refs)
    everything = normals + validation
    usual = None
    if normals + validation > 1 and normals > (0 if validation else 1):
        usual = divided()
        if mode == "split" or promise.kept_by(len(usual.calibration)):
            return usual
    if mode == "split" or usual is None:
        return divided()  # says what is wrong with the data
    crossed = everything if shots is None else min(shots, everything)
    aside = promise.needed - validation
    kept = normals - aside
    if promise.confidence is None and promise.kept_by(crossed) and pools_scores():
        return divided(cross=True)
    if kept >= max(LEAST_TRAINING, shots or 0):
        planned = divided(aside=aside)
        if promise.kept_by(len(planned.calibration)):
            return planned
    if validation or promise.confidence is not None or shots is not None:
        return usual
    if pools_scores():
        return divided(cross=True)
    return divided(aside=max(1, normals // 2))


def normals_of(refs: Sequence[SampleRef]) -> tuple[int, int]:
    """Return the numbers of good parts for training, and in the data's own validation split."""
    good = [ref.split for ref in refs if ref.label == 0]
    return good.count("train"), good.count("validation")


def few_calibration_warning(split: Split, promise: Promise, *, plannable: bool = True) -> str:
    """Return a sentence where a split cannot promise the rate; "" where it can.

    It says what follows, and what these parts can promise.

    Args:
        split: of the parts.
        promise: that is asked for.
        plannable: whether another rate would change how the parts are divided, as ``auto`` does.
    """
    calibrating = len(split.calibration)
    if promise.kept_by(calibrating):
        return ""
    good = calibrating if split.crossed else calibrating + len(split.train)
    sentence = (
        f"{_asked(promise)} needs {promise.needed} calibration parts, and {calibrating} of these "
        f"{good} good parts calibrate. No part will be decided on: verdicts will be 'undecided', "
        f"with a score and a p-value. {calibrating} calibration parts can promise "
        f"{_percent(promise.least(calibrating))}: train with "
        f"false_alarm_rate={promise.least(calibrating):g}, or change it afterwards with 'chiasm "
        f"threshold RUN --false-alarm-rate {promise.least(calibrating):g}'."
    )
    if not plannable:
        return sentence
    most = 0 if split.crossed else good - LEAST_TRAINING
    if most > calibrating:
        sentence += f" {_most_in_words(most, promise)}"
    more = max(1, promise.needed - (good if split.crossed else max(most, calibrating)))
    return f"{sentence} {more} more good parts would do for {_percent(promise.rate)}."


def outlook(refs: Sequence[SampleRef], promise: Promise) -> str:
    """Return what a training with default settings can promise of data with few good parts.

    "" where the good parts suffice. Nothing is drawn: only numbers of parts count.
    """
    normals, validation = normals_of(refs)
    good = normals + validation
    most = max(good - LEAST_TRAINING, validation)
    if normals == 0 or good < 2 or promise.kept_by(most):
        return ""
    can = _most_in_words(most, promise) if most > 0 else "They can promise nothing."
    return (
        f"{good} good parts are too few for a false-alarm rate of {_percent(promise.rate)}, which "
        f"needs {promise.needed} calibration parts beside at least {LEAST_TRAINING} for training: "
        f"verdicts would be 'undecided'. {can} A baseline of memories alone, such as "
        f"'--model btf', trains and calibrates with all {good}, for "
        f"{_percent(promise.least(good))} and more."
    )


def _most_in_words(most: int, promise: Promise) -> str:
    least = promise.least(most)
    return (
        f"With false_alarm_rate={least:g} given to the training, {most} parts calibrate and alarms "
        "are possible."
    )


def _asked(promise: Promise) -> str:
    sure = "" if promise.confidence is None else f" with {_percent(promise.confidence)} confidence"
    return f"A false-alarm rate of {_percent(promise.rate)}{sure}"


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"
