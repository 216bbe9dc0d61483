"""Differences between an exported detector and the trained one, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.detection.decision import AlarmRule
from chiasm.errors import ArtifactError
from chiasm.metrics.ranking import auroc

# A float32 graph of the whole model: largest difference of a map, as a share of the alarm
# threshold, because the unit of the maps is arbitrary and grows with the separation of the classes.
MAP_LIMIT = 1e-4

# Rounding decides which of two equally near normals is the nearest, and the score of a descriptor
# then jumps. This share of the pixels may differ by more, up to the second limit.
TIED_SHARE, TIED_LIMIT = 1e-3, 0.02

# Any other graph: loss of image-level AUROC on synthetic anomalies, as a share (0.005: 0.5 points).
AUROC_LIMIT = 0.005

ScoredParts = Sequence[tuple[NDArray[np.float32], float]]


@dataclass(frozen=True)
class Parity:
    """Comparison with the float32 model, on parts of neither its training nor its test.

    Attributes:
        exact: whether the strict limits apply: map difference and identical decisions.
        calibration_parts, anomalous_parts: numbers of parts.
        map_difference: largest difference of the maps of all these parts, as a share of the alarm
            threshold, without the thousandth of the pixels that differ most, where normals may be
            equally near.
        map_difference_raw: the same in the unit of the maps.
        map_difference_tied: largest difference of all pixels, as a share of the alarm threshold.
        score_difference: largest absolute difference of an image-level score.
        decisions_changed: calibration parts and synthetic anomalies with another decision, each
            model with its own calibration scores.
        auroc, auroc_float32: image-level, calibration normals against synthetic anomalies.
        alarms: share of the calibration normals that are called defective. Recalibration keeps it
            within the false-alarm rate whatever the scores are.
        false_alarm_rate: at which both models decide.
    """

    exact: bool
    calibration_parts: int
    anomalous_parts: int
    map_difference: float
    map_difference_raw: float
    map_difference_tied: float
    score_difference: float
    decisions_changed: int
    auroc: float
    auroc_float32: float
    alarms: float
    false_alarm_rate: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name, with the limits that apply to them."""
        limits = (
            {
                "map_difference": MAP_LIMIT,
                "map_difference_tied": TIED_LIMIT,
                "decisions_changed": 0,
            }
            if self.exact
            else {"auroc_loss": AUROC_LIMIT}
        )
        return {"summary": self.in_words(), **asdict(self), "limits": limits}

    def in_words(self) -> str:
        """Return what a person asks first: whether decisions, scores and maps are the same."""
        parts = self.calibration_parts + self.anomalous_parts
        return (
            f"Compared with the trained model on {parts} parts ({self.calibration_parts} good, "
            f"{self.anomalous_parts} with synthetic anomalies): {self.decisions_changed} other "
            f"decisions, scores differ by at most {self.score_difference:.2g}, maps by at most "
            f"{self.map_difference:.1g} of the alarm threshold, image AUROC is {self.auroc:.4f} "
            f"instead of {self.auroc_float32:.4f}."
        )


def compare(
    trained: ScoredParts,
    exported: ScoredParts,
    *,
    normals: int,
    rule: AlarmRule,
    exact: bool,
) -> Parity:
    """Compare the maps, scores and decisions of two models on the same parts.

    Args:
        trained, exported: map ``(S, S)`` and score of each part.
        normals: number of calibration normals; they come first, anomalous parts after them.
        rule: by which both decide, each with its own scores of the normals.
        exact: whether the strict limits apply.
    """
    differences = np.concatenate([np.abs(a[0] - b[0]).ravel() for a, b in zip(trained, exported)])
    rank = len(differences) - 1 - int(TIED_SHARE * len(differences))
    untied = float(np.partition(differences, rank)[rank])
    scores = np.array([(a[1], b[1]) for a, b in zip(trained, exported)])
    rules = [replace(rule, calibration_scores=column[:normals]) for column in scores.T]
    unit = rules[0].display_threshold
    labels = np.arange(len(scores)) >= normals
    alarms = np.stack([own.decide(column)[1] for own, column in zip(rules, scores.T)])
    has_anomalies = len(scores) > normals
    return Parity(
        exact=exact,
        calibration_parts=normals,
        anomalous_parts=len(scores) - normals,
        map_difference=untied / unit,
        map_difference_raw=untied,
        map_difference_tied=float(differences.max()) / unit,
        score_difference=float(np.abs(scores[:, 0] - scores[:, 1]).max()),
        decisions_changed=int((alarms[0] != alarms[1]).sum()),
        auroc=float(auroc(scores[:, 1], labels)) if has_anomalies else 1.0,
        auroc_float32=float(auroc(scores[:, 0], labels)) if has_anomalies else 1.0,
        alarms=float(alarms[1][:normals].mean()),
        false_alarm_rate=rule.false_alarm_rate,
    )


def require_parity(parity: Parity, *, target: str) -> None:
    """Raise ``ArtifactError`` where a limit is exceeded; ``target`` names the export."""
    if parity.exact:
        within = parity.map_difference <= MAP_LIMIT and parity.map_difference_tied <= TIED_LIMIT
        if not within or parity.decisions_changed:
            raise ArtifactError(
                f"{target} was not written: its maps differ from the trained model's by up to "
                f"{parity.map_difference:.2g} of the alarm threshold (limit {MAP_LIMIT:g}), by "
                f"{parity.map_difference_tied:.2g} where normals are equally near "
                f"(limit {TIED_LIMIT:g}), and {parity.decisions_changed} of "
                f"{parity.calibration_parts + parity.anomalous_parts} decisions differ."
            )
        return
    loss = parity.auroc_float32 - parity.auroc
    if loss > AUROC_LIMIT:
        raise ArtifactError(
            f"{target} was not written: image-level AUROC on synthetic anomalies falls from "
            f"{parity.auroc_float32:.4f} to {parity.auroc:.4f} (limit {AUROC_LIMIT:g}). Export "
            "with more precision, with a larger --memory-entries, or without --search-channels."
        )
