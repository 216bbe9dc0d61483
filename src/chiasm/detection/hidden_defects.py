"""Hidden defects among the normals of a run: found by votes, left out of the training, reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chiasm.detection.building import frozen_detector
from chiasm.detection.config import DetectionConfig
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.contamination import Suspicion, vote_on_parts
from chiasm.errors import SplitError
from chiasm.runs.console import MAX_LISTED, say
from chiasm.samples import PreparedSample

RECORD = "suspicious.json"  # in the run's folder


@dataclass(frozen=True, slots=True, eq=False)
class HiddenDefects:
    """What a search for hidden defects among the normals found.

    Attributes:
        contamination: share that was expected.
        training: the suspicion of each training normal, in their order.
        calibration: of each calibration normal.
    """

    contamination: float
    training: list[Suspicion]
    calibration: list[Suspicion]

    @property
    def kept(self) -> list[int]:
        """Indices of the training normals that are not suspicious."""
        return [i for i, found in enumerate(self.training) if not found.suspicious]

    @property
    def figures(self) -> dict[str, Any]:
        """The suspicious parts of both splits, the farthest first, as JSON values."""
        return {
            "contamination": self.contamination,
            "left_out_of_training": [asdict(s) for s in _suspicious(self.training)],
            "kept_in_calibration": [asdict(s) for s in _suspicious(self.calibration)],
        }


def find_hidden_defects(
    config: DetectionConfig,
    parts: Sequence[PreparedSample],
    calibration: Sequence[PreparedSample],
    *,
    groups: Sequence[int],
    scale: GeometryScale,
) -> HiddenDefects:
    """Judge the normals of a run, and say which are suspicious.

    Suspicious training normals are to be left out. Calibration normals are named and stay: without
    those of the largest scores the rate of false alarms would no longer be what is promised. A
    defect among them raises the threshold, so that fewer parts alarm; a person who sees it takes it
    away and calibrates again.

    Args:
        config: of the run, whose ``contamination`` is above 0.
        parts: prepared training normals.
        calibration: prepared calibration normals.
        groups: of the training normals.
        scale: of the geometry pictures.

    Raises:
        SplitError: there are too few parts to vote, or too few are left.
    """
    say(
        f"Looking for hidden defects among the normals (contamination={config.contamination:g}) ..."
    )
    # Frozen features of the default model: what is suspicious does not depend on the method.
    default = type(config).model_fields["model"].default
    detector = frozen_detector(config.model_copy(update={"model": default}))
    assert detector is not None and detector.frozen_source is not None
    training, others = vote_on_parts(
        detector.frozen_source,
        parts,
        groups=groups,
        contamination=config.contamination,
        scale=scale,
        others=calibration,
        seed=config.seed,
        folder=config.out if config.out.is_dir() else None,
    )
    found = HiddenDefects(config.contamination, training, others)
    if len(found.kept) < 2:
        raise SplitError(
            f"{len(training) - len(found.kept)} of {len(training)} training normals look "
            "defective; too few are left. Look at the parts, or give a lower contamination."
        )
    _say_suspicions(found)
    return found


def record_hidden_defects(folder: Path, found: HiddenDefects) -> None:
    """Write the suspicious parts to a run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(found.figures, indent=2) + "\n")


def suspicion_note(folder: Path) -> str | None:
    """Return the note of a report on the suspicious parts of a run; None without any search."""
    path = folder / RECORD
    if not path.exists():
        return None
    figures = json.loads(path.read_text())
    left_out = [row["source"] for row in figures["left_out_of_training"]]
    kept = [row["source"] for row in figures["kept_in_calibration"]]
    note = (
        f"Hidden defects were looked for among the normals (contamination="
        f"{figures['contamination']:g}). Left out of the training, to be looked at: "
        f"{_listed(left_out)}."
    )
    if kept:
        note += (
            f" Suspicious, but kept in the calibration: {_listed(kept)}. If they are defective, "
            "the threshold is too high and defects are missed: remove them from the data and train "
            "again."
        )
    return note


def _say_suspicions(found: HiddenDefects) -> None:
    for where, judged in (
        ("left out of the training", found.training),
        ("kept in the calibration", found.calibration),
    ):
        suspicious = _suspicious(judged)
        say(
            f"{len(suspicious)} of {len(judged)} normals are suspicious and {where}"
            + (f"; look at them ({RECORD} lists all):" if suspicious else ".")
        )
        for suspicion in suspicious[:MAX_LISTED]:
            say(f"  {suspicion}")
    if _suspicious(found.calibration):
        say(
            "A defect in the calibration raises the threshold, so that defects are missed; the "
            "promise of few false alarms still holds. Remove what is defective and train again."
        )


def _suspicious(judged: Sequence[Suspicion]) -> list[Suspicion]:
    return sorted((s for s in judged if s.suspicious), key=lambda s: -s.deviation)


def _listed(sources: Sequence[str]) -> str:
    return ", ".join(sources) or "none"
