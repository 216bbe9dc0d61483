"""Differences between an exported detector and the trained one, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.detection.decision import decide, display_threshold
from chiasm.errors import ArtifactError
from chiasm.metrics.ranking import auroc

# A float32 graph of the whole model: largest difference of a map, in units of the score that
# alarms: the maps' own unit is arbitrary, and grows with the separation of the classes.
MAP_LIMIT = 1e-4

# Of two normals that are equally near either may be taken, by rounding of the features alone, and
# a cell's score then jumps. So many pixels may differ by more, and by no more than this.
TIED_SHARE, TIED_LIMIT = 1e-3, 0.02

# Any other: image-level AUROC on synthetic anomalies, as a share (0.005 are 0.5 points).
AUROC_LIMIT = 0.005

Judged = Sequence[tuple[NDArray[np.float32], float]]


@dataclass(frozen=True)
class Parity:
    """What was compared with the float32 model, on parts that neither trained it nor test it.

    Attributes:
        exact: the strict limits hold: map difference and identical decisions.
        calibration_parts, anomalous_parts: how many.
        map_difference: largest difference of the maps of all these parts, over the score that
            alarms, but for a thousandth of the pixels, where normals may be equally near.
        map_difference_raw: the same in the maps' own unit.
        map_difference_tied: largest difference of all pixels, over the score that alarms.
        score_difference: largest absolute difference of an image score.
        decisions_changed: calibration parts and synthetic anomalies that are decided otherwise,
            each model with the scores of its own calibration.
        auroc, auroc_float32: image-level, calibration normals against synthetic anomalies.
        alarms: share of the calibration normals that are called defective. A threshold that is
            calibrated anew keeps it within the promise whatever the scores are.
        false_alarm_rate: that was promised.
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
        """Figures by name, with the limits that they were held to."""
        limits = (
            {
                "map_difference": MAP_LIMIT,
                "map_difference_tied": TIED_LIMIT,
                "decisions_changed": 0,
            }
            if self.exact
            else {"auroc_loss": AUROC_LIMIT}
        )
        return {**asdict(self), "limits": limits}


def compare(
    trained: Judged, exported: Judged, *, normals: int, false_alarm_rate: float, exact: bool
) -> Parity:
    """Compare what two models say about the same parts.

    Args:
        trained, exported: map ``(S, S)`` and score of each part.
        normals: so many of them, the first, are calibration normals, the others anomalous.
        false_alarm_rate: at which either decides.
        exact: hold the exported model to the strict limits.
    """
    apart = np.concatenate([np.abs(a[0] - b[0]).ravel() for a, b in zip(trained, exported)])
    place = len(apart) - 1 - int(TIED_SHARE * len(apart))
    usual = float(np.partition(apart, place)[place])
    scores = [(a[1], b[1]) for a, b in zip(trained, exported)]
    values = np.array(scores)
    unit = display_threshold(values[:normals, 0], false_alarm_rate)
    labels = np.arange(len(values)) >= normals
    alarms = np.stack(
        [decide(column, column[:normals], false_alarm_rate)[1] for column in values.T]
    )
    both = len(values) > normals
    return Parity(
        exact=exact,
        calibration_parts=normals,
        anomalous_parts=len(values) - normals,
        map_difference=usual / unit,
        map_difference_raw=usual,
        map_difference_tied=float(apart.max()) / unit,
        score_difference=float(np.abs(values[:, 0] - values[:, 1]).max()),
        decisions_changed=int((alarms[0] != alarms[1]).sum()),
        auroc=float(auroc(values[:, 1], labels)) if both else 1.0,
        auroc_float32=float(auroc(values[:, 0], labels)) if both else 1.0,
        alarms=float(alarms[1][:normals].mean()),
        false_alarm_rate=false_alarm_rate,
    )


def insist(parity: Parity, *, what: str) -> None:
    """Raise ``ArtifactError`` where a limit is passed."""
    if parity.exact:
        within = parity.map_difference <= MAP_LIMIT and parity.map_difference_tied <= TIED_LIMIT
        if not within or parity.decisions_changed:
            raise ArtifactError(
                f"{what} was not written: its maps differ from the trained model's by up to "
                f"{parity.map_difference:.2g} of the alarm score (limit {MAP_LIMIT:g}), where "
                f"normals are equally near by {parity.map_difference_tied:.2g} "
                f"(limit {TIED_LIMIT:g}), and "
                f"{parity.decisions_changed} of "
                f"{parity.calibration_parts + parity.anomalous_parts} decisions are others."
            )
        return
    loss = parity.auroc_float32 - parity.auroc
    if loss > AUROC_LIMIT:
        raise ArtifactError(
            f"{what} was not written: image-level AUROC on synthetic anomalies falls from "
            f"{parity.auroc_float32:.4f} to {parity.auroc:.4f} (limit {AUROC_LIMIT:g}). Export "
            "with more precision, with a larger --memory-entries, or without --search-channels."
        )
