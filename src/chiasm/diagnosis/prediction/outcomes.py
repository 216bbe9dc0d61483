"""What a table says of a recording, and what the console says of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chiasm.runs.console import report_failures, say
from chiasm.runs.tally import Outcome, Tally
from chiasm.samples import Diagnosis

_UNKNOWN = "unknown"


def columns_of(kinds: Sequence[str]) -> dict[str, str]:
    """Return the columns of a table by name, with the type of Arrow.

    Args:
        kinds: the model's classes.
    """
    return {
        "source": "string",
        "kind": "string",
        **{f"p_{kind}": "double" for kind in kinds},
        "uncertainty": "double",
        "conflict": "double",
        "distance": "double",
        "distance_limit": "double",
        "nearest_kind": "string",
        "notes": "string",
        "error": "string",
    }


def outcome_of(
    diagnosis: Diagnosis, kinds: Sequence[str], *, remarks: tuple[str, ...] = ()
) -> Outcome:
    """Return the row of a diagnosis, and what it counts as.

    Args:
        diagnosis: of one recording.
        kinds: the model's classes.
        remarks: of the reader on the recording.
    """
    line = ""
    if diagnosis.kind is not None:
        line = f"{diagnosis.source}: {diagnosis.kind} ({_likeliest(diagnosis)})"
        if diagnosis.distance > diagnosis.distance_limit:
            line = f"{diagnosis.source}: {diagnosis.kind}, {diagnosis.notes[-1]}"
    return Outcome(
        row_of(diagnosis, kinds),
        kinds=(_UNKNOWN,) if diagnosis.kind == _UNKNOWN else (),
        notes=diagnosis.notes,
        remarks=remarks,
        failure=diagnosis.error,
        line=line,
    )


def row_of(diagnosis: Diagnosis, kinds: Sequence[str]) -> dict[str, Any]:
    """Return the row of a table by the names of ``columns_of``; what is not known is None."""

    def rounded(x: float) -> float | None:
        return None if math.isnan(x) else round(x, 5)

    probabilities = diagnosis.probabilities
    return {
        "source": diagnosis.source,
        "kind": diagnosis.kind,
        **{f"p_{kind}": rounded(probabilities.get(kind, math.nan)) for kind in kinds},
        "uncertainty": rounded(diagnosis.uncertainty),
        "conflict": rounded(diagnosis.conflict),
        "distance": rounded(diagnosis.distance),
        "distance_limit": rounded(diagnosis.distance_limit),
        "nearest_kind": diagnosis.nearest_kind,
        "notes": "; ".join(diagnosis.notes),
        "error": diagnosis.error,
    }


def say_summary(tally: Tally, folder: Path) -> None:
    """Print what became of all recordings.

    Args:
        tally: counts of the outcomes.
        folder: of the results.

    Raises:
        DataError: no recording has a diagnosis.
    """
    tally.say_remarks()
    say(
        f"{tally.inputs} recordings: {tally.kinds[_UNKNOWN]} unknown, {tally.failed} not "
        f"diagnosed. See {folder}."
    )
    tally.say_lines()
    report_failures(
        [reason for _, reason in tally.failures],
        succeeded=tally.succeeded,
        noun="recordings",
        failed=tally.failed,
    )


def _likeliest(diagnosis: Diagnosis) -> str:
    """Return the two likeliest classes and the uncertainty as text."""
    order = sorted(diagnosis.probabilities.items(), key=lambda item: -item[1])
    likely = ", ".join(f"{kind} {probability:.0%}" for kind, probability in order[:2])
    return f"{likely}; uncertainty {diagnosis.uncertainty:.0%}"
