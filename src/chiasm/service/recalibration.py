"""A new threshold from what operators said of verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from chiasm.detection.decision import alarm_threshold
from chiasm.errors import ConfigurationError, SplitError
from chiasm.metrics.calibration import conformal_threshold, normals_needed
from chiasm.runtime.deployment import DEPLOYMENT, read_deployment, write_deployment
from chiasm.service.verdict_log import VerdictLog


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What a new calibration is made of, and what it would have changed.

    Attributes:
        good: confirmed good parts that were called good.
        false_alarms: confirmed good parts that were called defective, and are counted.
        left_out: confirmed good parts that would be counted too often; see ``equally_confirmed``.
        old: calibration scores that were there before and stay.
        before, after: threshold; None where there was none.
        defects: confirmed defective parts.
        caught: of them, those above the new threshold.
        kept: file that holds what was there before.
    """

    good: int
    false_alarms: int
    left_out: int
    old: int
    before: float | None
    after: float
    defects: int
    caught: int
    kept: Path

    def __str__(self) -> str:
        before = "none" if self.before is None else f"{self.before:.4g}"
        return (
            f"Calibrated on {self.good + self.false_alarms} confirmed good parts "
            f"({self.false_alarms} of them false alarms; {self.left_out} left out so that both "
            f"kinds count as often as they happen) and {self.old} older scores. Threshold: "
            f"{before} before, {self.after:.4g} now. Of {self.defects} confirmed defects "
            f"{self.caught} are above it. The former calibration is kept as {self.kept}."
        )


def recalibrate(
    folder: Path,
    log: VerdictLog,
    *,
    false_alarm_rate: float | None = None,
    keep_old: bool = False,
    days: float | None = None,
    name: str | None = None,
) -> Recalibration:
    """Write a new version of a model's ``deployment.json`` with scores of confirmed good parts.

    A running service that watches the folder takes it over by itself. Only verdicts of the same
    graph count, for no other's scores compare.

    Args:
        folder: that ``chiasm export`` wrote.
        log: with corrections.
        false_alarm_rate: to be promised from now on; None keeps the model's.
        keep_old: the scores of the export stay beside the new ones: for more of the same parts,
            not where parts or light have changed.
        days: how far back verdicts count; None takes the whole log.
        name: under which a service judged; needed where the log has several for this graph.

    Raises:
        SplitError: too few good parts were confirmed, or alarms and none of them was reviewed.
        ConfigurationError: the model decides nothing by a threshold, the rate is impossible, or
            the log does not have the name, or has several and none was given.
        ArtifactError: the folder is broken or cannot be written.
    """
    deployment = read_deployment(folder)
    if deployment.wing != "detector":
        raise ConfigurationError(
            f"{folder} holds a {deployment.wing}, which has no threshold on a score; what was "
            "corrected is in the log, to train it again."
        )
    rate = deployment.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    needed = normals_needed(rate)
    since = 0.0 if days is None else time.time() - days * 86_400
    version = deployment.model_hash
    name = _only_name(log.names(version, since), name)
    rows = log.corrected(name, version, since)
    good, false_alarms = equally_confirmed(rows, log.counts(name, version, since))
    new = [float(row["score"]) for row in (*good, *false_alarms)]
    old = deployment.calibration_scores if keep_old else ()
    if not new or len(new) + len(old) < needed:
        raise SplitError(
            f"{len(new)} confirmed good parts{f' and {len(old)} older scores' if keep_old else ''} "
            f"are too few: a false-alarm rate of {rate:g} needs {max(needed, 1)}. Confirm more "
            "good parts as 'right' on the page, ask for a higher --false-alarm-rate, or add "
            "--keep-old where nothing has changed since the export."
        )
    scores = tuple(sorted((*new, *old)))
    after = conformal_threshold(scores, rate)
    confirmed = [row for row in rows if _is_defect(row)]
    kept = _keep(folder)
    write_deployment(
        folder,
        replace(
            deployment,
            calibration_scores=scores,
            false_alarm_rate=rate,
            notes=(
                *deployment.notes,
                f"{time.strftime('%Y-%m-%d', time.gmtime())}: calibrated on {len(new)} parts that "
                f"operators confirmed as good and {len(old)} older scores.",
            ),
        ),
    )
    return Recalibration(
        good=len(good),
        false_alarms=len(false_alarms),
        left_out=sum(map(_is_good, rows)) - len(new),
        old=len(old),
        before=alarm_threshold(deployment.calibration_scores, deployment.false_alarm_rate),
        after=after,
        defects=len(confirmed),
        caught=sum(float(row["score"]) > after for row in confirmed),
        kept=kept,
    )


def equally_confirmed(
    rows: Sequence[dict[str, Any]], counts: dict[str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Confirmed good parts and false alarms, in the shares in which good parts come.

    Operators look at nearly every alarm and at few other parts. Counted as they come, false alarms
    would raise the threshold far beyond what the promised rate asks for, and defects would be
    missed. So whichever kind was looked at more often is thinned, by id, which is random.

    Args:
        rows: corrected verdicts.
        counts: all verdicts by decision.

    Raises ``SplitError`` where there were alarms and none was reviewed.
    """
    good = [row for row in rows if _is_good(row) and row["decision"] == "good"]
    false_alarms = [row for row in rows if _is_good(row) and row["decision"] == "defective"]
    looked_at = {
        decision: Fraction(
            sum(row["decision"] == decision for row in rows), max(counts.get(decision, 0), 1)
        )
        for decision in ("good", "defective")
    }
    if counts.get("defective", 0) and not looked_at["defective"]:
        raise SplitError(
            f"None of {counts['defective']} alarms was reviewed, so nobody knows how many were "
            "false; say so on the page first."
        )
    if not looked_at["good"] and counts.get("good", 0):
        raise SplitError(
            f"None of {counts['good']} parts called good was confirmed. False alarms alone would "
            "make the model blind: confirm good parts as 'right' too, any that come along."
        )
    if counts.get("good", 0) and counts.get("defective", 0):
        least = min(looked_at.values())
        # Rounded to the side of more false alarms: one too few of a handful would put the
        # threshold where more good parts alarm than is promised.
        good = good[: math.floor(len(good) * least / looked_at["good"])]
        false_alarms = false_alarms[: math.ceil(len(false_alarms) * least / looked_at["defective"])]
    return good, false_alarms


def _only_name(names: Sequence[str], asked: str | None) -> str:
    """The name whose verdicts count: stations that share an export do not share their parts."""
    listed = ", ".join(names)
    if asked is None and len(names) > 1:
        raise ConfigurationError(
            f"The log has verdicts of this graph under several names: {listed}. Say whose count "
            "with --name."
        )
    if asked is not None and names and asked not in names:
        raise ConfigurationError(
            f"The log has no verdicts of this graph under the name {asked!r}; it has {listed}."
        )
    return asked if asked is not None else next(iter(names), "")


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


def _keep(folder: Path) -> Path:
    """A copy of the present calibration, by the time at which it was replaced."""
    kept = folder / f"deployment.until-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.json"
    kept.write_bytes((folder / DEPLOYMENT).read_bytes())
    return kept
