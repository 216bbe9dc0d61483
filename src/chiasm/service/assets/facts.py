"""What the log keeps of a recording of an asset, so that its trend can be told later."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from chiasm.diagnosis.monitoring.asset import Observation
from chiasm.diagnosis.monitoring.measuring import observation_of
from chiasm.diagnosis.monitoring.times import is_ambiguous, time_of_text
from chiasm.errors import DataError
from chiasm.samples import Diagnosis, RecordingSample
from chiasm.service.refusals import shortened

_LONGEST = 120  # letters of a name


def check_asset(fields: Mapping[str, str]) -> None:
    """Refuse fields of an asset that cannot be understood; ``DataError`` names the field."""
    _recorded(fields, 0.0)
    for name in ("asset", "recorder"):
        text = fields.get(name, "").strip()
        if len(text) > _LONGEST or not (text.isprintable() or not text):
            raise DataError(
                f"{name} is {shortened(text)!r}; at most {_LONGEST} printable characters were "
                "expected."
            )
    if not fields.get("asset", "").strip():
        for name in ("recorded", "recorder"):
            if fields.get(name, "").strip():
                raise DataError(
                    f"{name} belongs to an asset, and the request names none; send asset, too."
                )


def facts_of(
    fields: Mapping[str, str], sample: RecordingSample, diagnosis: Diagnosis, now: float
) -> tuple[str, str]:
    """Return the asset of a request, and what its trend needs as JSON; "" twice without one.

    Args:
        fields: of the request, checked.
        sample: the recording, with its pulses and the instrument behind it.
        diagnosis: of it.
        now: seconds since 1970, where the request does not tell when it was recorded.
    """
    asset = fields.get("asset", "").strip()
    if not asset:
        return "", ""
    one = observation_of(
        sample,
        diagnosis,
        time=_recorded(fields, now),
        source="",
        recorder=fields.get("recorder", "").strip(),
        digest="",
    )
    facts = {
        "recorded": one.time,
        "quantities": dict(one.quantities),
        "unit": one.unit,
        "severity": one.severity,
        "recorder": one.recorder,
        "kinds": sorted(diagnosis.probabilities),
    }
    return asset, json.dumps(facts)


def observation_from(row: Mapping[str, Any]) -> Observation:
    """Return what a row of the log says of its asset."""
    facts = json.loads(row["facts"]) if row["facts"] else {}
    judged = row["decision"] != "error"
    score = row["score"]
    return Observation(
        source=row["source"],
        time=float(facts.get("recorded") or row["time"]),
        kind=row["decision"] if judged else None,
        confidence=math.nan if score is None else float(score),
        probabilities=dict.fromkeys(facts.get("kinds", ()), math.nan),
        quantities=facts.get("quantities", {}),
        unit=facts.get("unit", ""),
        severity=facts.get("severity", ""),
        recorder=facts.get("recorder", ""),
        digest=row["input_sha256"],
        error=row["error"],
    )


def _recorded(fields: Mapping[str, str], now: float) -> float:
    text = fields.get("recorded", "").strip()
    if not text:
        return now
    time = None if is_ambiguous(text) else time_of_text(text)
    if time is None:
        raise DataError(
            f"recorded is {shortened(text)!r}; a time such as 2024-05-31T14:30 was expected."
        )
    return time
