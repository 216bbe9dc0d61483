"""What a table says of a part, and what the console says of all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from chiasm.runs.console import failure_reason, report_failures, say
from chiasm.runs.tally import Outcome, Tally
from chiasm.samples import Verdict

COLUMNS = {
    "source": "string",
    "score": "double",
    "p_value": "double",
    "defective": "bool",
    "notes": "string",
    "error": "string",
}
_BAD, _UNDECIDED = "defective", "undecided"


def outcome_of(verdict: Verdict, *, picture: bytes | None = None) -> Outcome:
    """Return the row of a verdict, and what it counts as."""
    kinds: tuple[str, ...] = ()
    if verdict.defective is True:
        kinds = (_BAD,)
    elif verdict.defective is None and not verdict.error:
        kinds = (_UNDECIDED,)
    return Outcome(
        row_of(verdict),
        kinds=kinds,
        notes=verdict.notes,
        failure=failure_reason(verdict) if verdict.error else "",
        line="" if verdict.error else f"{verdict.source}: {_in_words(verdict)}",
        picture=picture,
    )


def row_of(verdict: Verdict) -> dict[str, Any]:
    """Return the row of a table by the names of ``COLUMNS``; what is not known is None."""

    def known(x: float) -> float | None:
        return None if math.isnan(x) else x

    return {
        "source": verdict.source,
        "score": known(verdict.score),
        "p_value": known(verdict.p_value),
        "defective": verdict.defective,
        "notes": " ".join(verdict.notes),
        "error": verdict.error,
    }


def say_summary(tally: Tally, folder: Path, *, promise: str) -> None:
    """Print what became of all parts.

    Args:
        tally: counts of the outcomes.
        folder: of the results.
        promise: of the model's alarm rule.

    Raises:
        DataError: no part has a verdict.
    """
    undecided = tally.kinds[_UNDECIDED]
    said = [f"{tally.kinds[_BAD]} defective", *([f"{undecided} undecided"] if undecided else [])]
    said.append(f"{tally.failed} not judged")
    say(f"{tally.inputs} parts: {', '.join(said)}. See {folder}.")
    say(promise)
    tally.say_lines()
    tally.say_notes("parts")
    report_failures(
        [reason for _, reason in tally.failures],
        succeeded=tally.succeeded,
        noun="parts",
        failed=tally.failed,
    )


def _in_words(verdict: Verdict) -> str:
    if verdict.defective is None:
        return f"undecided, score {verdict.score:.3g}"
    decision = "defective" if verdict.defective else "good"
    return f"{decision}, score {verdict.score:.3g}, p-value {verdict.p_value:.3f}"
