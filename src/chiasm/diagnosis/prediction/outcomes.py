"""What a table says of a recording, and what the console says of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chiasm.discharge import DischargeSource, digits
from chiasm.display import plain
from chiasm.runs.console import report_failures, say
from chiasm.runs.tally import Outcome, Tally
from chiasm.samples import Diagnosis

_UNKNOWN = "unknown"
# Of a table; all are in the JSON.
_QUANTITIES = (
    *("charge_repeated", "charge_10_per_s", "charge_largest", "rate_per_s", "rate_per_cycle"),
    *("current_per_s", "quadratic_rate_per_s", "power_kv_per_s", "inception_kv", "extinction_kv"),
)


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
        "severity": "string",
        "charge_unit": "string",
        **dict.fromkeys(_QUANTITIES, "double"),
        "sources": "string",
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
        remarks: of the reader on the recording, which are also notes of its row.
    """
    line = ""
    if diagnosis.kind is not None:
        because = _likeliest(diagnosis)
        if diagnosis.distance > diagnosis.distance_limit:
            because = (
                f"like none of the trained classes: nearest is {diagnosis.nearest_kind}, distance "
                f"{diagnosis.distance:.2f} against limit {diagnosis.distance_limit:.2f}"
            )
        line = f"{diagnosis.source}: {diagnosis.kind} ({because}){_acted_on(diagnosis)}"
    return Outcome(
        row_of(with_remarks(diagnosis, remarks), kinds),
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

    probabilities, quantities = diagnosis.probabilities, diagnosis.quantities
    return {
        "source": diagnosis.source,
        "kind": diagnosis.kind,
        **{f"p_{kind}": rounded(probabilities.get(kind, math.nan)) for kind in kinds},
        "uncertainty": rounded(diagnosis.uncertainty),
        "conflict": rounded(diagnosis.conflict),
        "severity": None if diagnosis.severity is None else diagnosis.severity.level,
        "charge_unit": None if quantities is None else quantities.unit,
        **{name: _short(getattr(quantities, name, None)) for name in _QUANTITIES},
        "sources": "; ".join(f"{s.kind} {s.share_of_charge:.0%}" for s in diagnosis.sources),
        "distance": rounded(diagnosis.distance),
        "distance_limit": rounded(diagnosis.distance_limit),
        "nearest_kind": diagnosis.nearest_kind,
        "notes": "; ".join(diagnosis.notes),
        "error": diagnosis.error,
    }


def with_remarks(diagnosis: Diagnosis, remarks: tuple[str, ...]) -> Diagnosis:
    """Return a diagnosis whose notes begin with what was assumed when the files were read."""
    return replace(diagnosis, notes=(*remarks, *diagnosis.notes)) if remarks else diagnosis


def record_of(diagnosis: Diagnosis, kinds: Sequence[str]) -> dict[str, Any]:
    """Return the row of a diagnosis with ``details``, for which a table has no room, as JSON.

    They are ``quantities`` by names with units, ``severity`` with its reasons, and ``sources``.
    """
    severity, quantities = diagnosis.severity, diagnosis.quantities
    details = {
        "quantities": None if quantities is None else quantities.named(),
        "severity": None if severity is None else plain(severity),
        "sources": [source_record(source) for source in diagnosis.sources],
    }
    return row_of(diagnosis, kinds) | {"details": details}


def source_record(source: DischargeSource) -> dict[str, Any]:
    """Return one of several sources as JSON can hold it."""
    record = plain(source)
    record["quantities"] = None if source.quantities is None else source.quantities.named()
    return record


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


def _acted_on(diagnosis: Diagnosis) -> str:
    """Return severity, charge and sources as text."""
    text, quantities = "", diagnosis.quantities
    if diagnosis.severity is not None:
        text += f"; severity {diagnosis.severity.level}"
    if quantities is not None and quantities.charge_repeated is not None:
        unit = "pC" if quantities.calibrated else "units (uncalibrated)"
        text += f", {digits(quantities.charge_repeated)} {unit}"
    if quantities is not None and quantities.rate_per_s is not None:
        text += f", {digits(quantities.rate_per_s)} pulses/s"
    if diagnosis.sources:
        shares = ", ".join(f"{s.kind} {s.share_of_charge:.0%}" for s in diagnosis.sources)
        text += f"; {len(diagnosis.sources)} sources by charge: {shares}"
    return text


def _short(value: float | None) -> float | None:
    """Return a number with six digits."""
    return None if value is None else float(f"{value:.6g}")


def _likeliest(diagnosis: Diagnosis) -> str:
    """Return the two likeliest classes and the uncertainty as text."""
    order = sorted(diagnosis.probabilities.items(), key=lambda item: -item[1])
    likely = ", ".join(f"{kind} {probability:.0%}" for kind, probability in order[:2])
    return f"{likely}; uncertainty {diagnosis.uncertainty:.0%}"
