"""How far an exported classifier is from the trained one, and how far it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chiasm.diagnosis_rule import Array
from chiasm.errors import ArtifactError
from chiasm.metrics.classification import macro_f1

# Of float32: largest difference of a logit; float32 itself is no finer after four layers.
LOGIT_LIMIT = 1e-3
# Of less: macro-F1 on validation recordings, as a share (0.005 are 0.5 points).
F1_LIMIT = 0.005


@dataclass(frozen=True)
class LogitParity:
    """What was compared with the float32 model, on validation recordings.

    Attributes:
        exact: the strict limits hold: logit difference and identical classes.
        recordings: how many.
        logit_difference: largest, by whatever modalities were shown.
        classes_changed: recordings whose likeliest class is another, all modalities shown.
        macro_f1, macro_f1_float32: on these recordings.
    """

    exact: bool
    recordings: int
    logit_difference: float
    classes_changed: int
    macro_f1: float
    macro_f1_float32: float

    def as_json(self) -> dict[str, Any]:
        """Figures by name, with the limits that they were held to."""
        limits = (
            {"logit_difference": LOGIT_LIMIT, "classes_changed": 0}
            if self.exact
            else {"macro_f1_loss": F1_LIMIT}
        )
        return {**asdict(self), "limits": limits}


def compare_logits(
    trained: Mapping[str, Array],
    exported: Mapping[str, Array],
    labels: np.ndarray,
    *,
    exact: bool,
) -> LogitParity:
    """Compare logits ``(N, K)`` by the modalities that were shown, e.g. ``"image+series"``."""
    whole = max(trained, key=len)
    guesses = [logits[whole].argmax(axis=1) for logits in (trained, exported)]
    classes = trained[whole].shape[1]
    return LogitParity(
        exact=exact,
        recordings=len(labels),
        logit_difference=max(float(np.abs(trained[key] - exported[key]).max()) for key in trained),
        classes_changed=int((guesses[0] != guesses[1]).sum()),
        macro_f1=float(macro_f1(labels, guesses[1], classes)),
        macro_f1_float32=float(macro_f1(labels, guesses[0], classes)),
    )


def insist_on_logits(parity: LogitParity, *, what: str) -> None:
    """Raise ``ArtifactError`` where a limit is passed."""
    if parity.exact and (parity.logit_difference > LOGIT_LIMIT or parity.classes_changed):
        raise ArtifactError(
            f"{what} was not written: its logits differ from the trained model's by up to "
            f"{parity.logit_difference:.2g} (limit {LOGIT_LIMIT:g}) and {parity.classes_changed} "
            f"of {parity.recordings} recordings get another class."
        )
    loss = parity.macro_f1_float32 - parity.macro_f1
    if not parity.exact and loss > F1_LIMIT:
        raise ArtifactError(
            f"{what} was not written: macro-F1 on validation recordings falls from "
            f"{parity.macro_f1_float32:.4f} to {parity.macro_f1:.4f} (limit {F1_LIMIT:g}). "
            "Export with more precision."
        )
