"""A new threshold from operators' corrections."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from chiasm.deploy.threshold import replace_deployment
from chiasm.detection.decision import percent
from chiasm.errors import ConfigurationError, SplitError
from chiasm.metrics.calibration import conformal_threshold, normals_needed
from chiasm.runtime.deployment import read_deployment
from chiasm.service.log.verdict_log import VerdictLog


@dataclass(frozen=True, slots=True)
class Recalibration:
    """The scores of a new calibration, and its effect.

    Attributes:
        good: confirmed good parts with the verdict good.
        false_alarms: confirmed good parts with the verdict defective.
        left_out: confirmed good parts left out for balance; see ``balanced_confirmations``.
        old: earlier calibration scores that stay.
        before, after: thresholds; ``before`` is None if there was none.
        promise_before, promise: what is promised of false alarms, as sentences.
        defects: confirmed defective parts.
        caught: confirmed defective parts above the new threshold.
        backup: file of the earlier calibration.
        stations: whose parts counted.
    """

    good: int
    false_alarms: int
    left_out: int
    old: int
    before: float | None
    after: float
    promise_before: str
    promise: str
    defects: int
    caught: int
    backup: Path
    stations: tuple[str, ...] = ()

    def __str__(self) -> str:
        before = "none" if self.before is None else f"{self.before:.4g}"
        several = (
            f" They come from {len(self.stations)} stations: {', '.join(self.stations)}; if lamp "
            "or parts differ there, give --station."
            if len(self.stations) > 1
            else ""
        )
        return (
            f"Calibrated on {self.good + self.false_alarms} confirmed good parts "
            f"({self.false_alarms} of them false alarms; {self.left_out} left out so that both "
            f"kinds count in their true shares) and {self.old} older scores.{several} Threshold: "
            f"{before} before, {self.after:.4g} now. Before: {self.promise_before} Now: "
            f"{self.promise} Of {self.defects} confirmed defects "
            f"{self.caught} are above it. The former calibration is kept as {self.backup}."
        )


def recalibrate(
    folder: Path,
    log: VerdictLog,
    *,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    keep_old: bool = False,
    days: float | None = None,
    name: str | None = None,
    station: str | None = None,
) -> Recalibration:
    """Write a new version of a model's ``deployment.json`` with scores of confirmed good parts.

    A running service that watches the folder loads it by itself. Only verdicts of the same graph
    count, because scores of different graphs cannot be compared.

    Args:
        folder: written by ``chiasm export``.
        log: with corrections.
        false_alarm_rate: of the new threshold; None keeps the model's.
        confidence: with which this calibration keeps the rate; None keeps the model's.
        keep_old: keep the scores of the export beside the new ones. Right for more of the same
            parts, wrong if parts or lamp have changed.
        days: age of the oldest verdicts that count; None takes the whole log.
        name: of the model in the service; required if the log has several for this graph.
        station: whose parts count; None counts those of all stations, which the result names.

    Raises:
        SplitError: too few good parts were confirmed, or none of the alarms was reviewed.
        ConfigurationError: the model has no threshold, rate or confidence are impossible, or
            ``name`` or ``station`` is unknown, or ``name`` is missing although the log has several.
        ArtifactError: the folder is broken or cannot be written.
    """
    deployment = read_deployment(folder)
    if deployment.wing != "detector":
        raise ConfigurationError(
            f"{folder} holds a {deployment.wing}, which has no threshold on a score; use the "
            "corrections in the log to train it again."
        )
    rate = deployment.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    confidence = deployment.confidence if confidence is None else confidence
    needed = normals_needed(rate, confidence)
    since = 0.0 if days is None else time.time() - days * 86_400
    version = deployment.model_hash
    name = _only_name(log.names(version, since), name)
    stations = log.stations(name, version, since)
    if station is not None and station not in stations:
        raise ConfigurationError(
            f"The log has no verdicts of this graph at the station {station!r}; it has "
            f"{', '.join(map(repr, stations)) or 'none'}."
        )
    rows = log.corrected(name, version, since, station)
    counts = log.counts(name, version, since, station)
    good, false_alarms = balanced_confirmations(rows, counts)
    new = [float(row["score"]) for row in (*good, *false_alarms)]
    old = deployment.calibration_scores if keep_old else ()
    if not new or len(new) + len(old) < needed:
        sure = "" if confidence is None else f" with {percent(confidence)} confidence"
        raise SplitError(
            f"{len(new)} confirmed good parts{f' and {len(old)} older scores' if keep_old else ''} "
            f"are too few: a false-alarm rate of {rate:g}{sure} needs {max(needed, 1)}. Confirm "
            "more good parts as 'right' on the page, ask for a higher --false-alarm-rate, or add "
            "--keep-old where nothing has changed since the export."
        )
    scores = tuple(sorted((*new, *old)))
    after = conformal_threshold(scores, rate, confidence)
    defects = [row for row in rows if _is_defect(row)]
    calibrated = replace(
        deployment,
        calibration_scores=scores,
        false_alarm_rate=rate,
        confidence=confidence,
        known_defects=None,  # scores of good parts promise the rate again
        notes=(
            *deployment.notes,
            f"{time.strftime('%Y-%m-%d', time.gmtime())}: calibrated on {len(new)} parts that "
            f"operators confirmed as good and {len(old)} older scores.",
        ),
    )
    backup = replace_deployment(folder, calibrated)
    return Recalibration(
        good=len(good),
        false_alarms=len(false_alarms),
        left_out=sum(map(_is_good, rows)) - len(new),
        old=len(old),
        before=deployment.alarm_rule.threshold,
        after=after,
        promise_before=deployment.alarm_rule.promise,
        promise=calibrated.alarm_rule.promise,
        defects=len(defects),
        caught=sum(float(row["score"]) > after for row in defects),
        backup=backup,
        stations=(station,) if station is not None else tuple(name or "-" for name in stations),
    )


def balanced_confirmations(
    rows: Sequence[dict[str, Any]], counts: dict[str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return confirmed good parts and false alarms, in the shares in which good parts occur.

    Operators review nearly every alarm and few other parts. Unbalanced, false alarms would raise
    the threshold far beyond the one of the promised rate, and defects would be missed. So the kind
    that was reviewed more often is thinned, by id, which is random.

    Args:
        rows: corrected verdicts.
        counts: all verdicts by decision.

    Raises ``SplitError`` if none of the alarms, or none of the other parts, was reviewed.
    """
    good = [row for row in rows if _is_good(row) and row["decision"] == "good"]
    false_alarms = [row for row in rows if _is_good(row) and row["decision"] == "defective"]
    reviewed = {
        decision: Fraction(
            sum(row["decision"] == decision for row in rows), max(counts.get(decision, 0), 1)
        )
        for decision in ("good", "defective")
    }
    if counts.get("defective", 0) and not reviewed["defective"]:
        raise SplitError(
            f"None of {counts['defective']} alarms was reviewed, so it is unknown how many were "
            "false; correct them on the page first."
        )
    if not reviewed["good"] and counts.get("good", 0):
        raise SplitError(
            f"None of {counts['good']} parts called good was confirmed. False alarms alone would "
            "make the model blind: confirm good parts as 'right', too."
        )
    if counts.get("good", 0) and counts.get("defective", 0):
        least = min(reviewed.values())
        # Rounded towards more false alarms: one too few of a handful would lower the threshold so
        # that more good parts alarm than is promised.
        good = good[: math.floor(len(good) * least / reviewed["good"])]
        false_alarms = false_alarms[: math.ceil(len(false_alarms) * least / reviewed["defective"])]
    return good, false_alarms


def _only_name(names: Sequence[str], name: str | None) -> str:
    """Return the model name to count: stations with the same export inspect different parts."""
    listed = ", ".join(names)
    if name is None and len(names) > 1:
        raise ConfigurationError(
            f"The log has verdicts of this graph under several names: {listed}. Choose one with "
            "--name."
        )
    if name is not None and names and name not in names:
        raise ConfigurationError(
            f"The log has no verdicts of this graph under the name {name!r}; it has {listed}."
        )
    return name if name is not None else next(iter(names), "")


def _is_good(row: dict[str, Any]) -> bool:
    return row["score"] is not None and (row["decision"], row["says"]) in (
        ("good", "right"),
        ("defective", "false alarm"),
    )


def _is_defect(row: dict[str, Any]) -> bool:
    return row["score"] is not None and (row["decision"], row["says"]) in (
        ("good", "missed"),
        ("defective", "right"),
    )
