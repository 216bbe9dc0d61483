"""The record of one verdict as other systems receive it, and its JSON schema."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from chiasm.samples import Diagnosis, Region, Verdict

SCHEMA, VERSION = "chiasm.verdict", 2
VERSIONS = (1, 2)
# What a version has that the one before had not; a receiver may ask for an earlier one.
# What is known of these where a record is older is on the right.
_SINCE_2 = {
    "product": "",
    **dict.fromkeys(("confidence", "unknown", "severity", "charge", "charge_unit", "pulse_rate")),
}
GOOD, DEFECTIVE, UNDECIDED, ERROR = "good", "defective", "undecided", "error"
UNKNOWN = "unknown"  # of a recording that is like none of the trained classes

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LineRecord:
    """What was decided on one part or recording.

    Attributes:
        id: 32 hexadecimal digits; a record that is sent twice has the same one.
        time: seconds since 1970, UTC.
        source: name of the part or recording.
        decision: ``"good"``, ``"defective"``, ``"undecided"``, of a recording its kind, or
            ``"error"``.
        station: name of the place.
        model: name of the model.
        model_hash: SHA-256 of its version.
        wing: ``"detector"`` or ``"classifier"``.
        alarm: whether a part is defective; None where nothing was decided, and of recordings.
        score: raw score of a part, or largest probability of a recording; None on error.
        p_value: of a part.
        threshold: score above which a part is defective.
        product: of which a part is, where the model is of several; else "".
        probabilities: of a recording, by kind.
        confidence: largest probability of a recording.
        unknown: whether a recording is like none of the trained classes; None of parts.
        severity: of a recording's pulses, ``"low"``, ``"medium"``, ``"high"``, or "".
        charge: largest repeatedly occurring charge of a recording, in ``charge_unit``.
        charge_unit: ``"pC"``, ``"uncalibrated"``, or "" without a charge.
        pulse_rate: of a recording, pulses a second.
        regions: places of the alarm on a part, the highest peak first.
        parts: of a frame that is split, the verdict on each of its parts.
        latency_ms: from the start of reading to the verdict.
        notes: remarks.
        error: what was wrong, or "".
    """

    id: str
    time: float
    source: str
    decision: str
    station: str = ""
    model: str = ""
    model_hash: str = ""
    wing: str = "detector"
    alarm: bool | None = None
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    product: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    unknown: bool | None = None
    severity: str = ""
    charge: float | None = None
    charge_unit: str = ""
    pulse_rate: float | None = None
    regions: tuple[Region, ...] = ()
    parts: tuple[Verdict, ...] = ()
    latency_ms: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""

    def payload(self) -> dict[str, Any]:
        """Return the record as JSON holds it; see ``json_schema``."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "id": self.id,
            "time": iso_time(self.time),
            "station": clean(self.station),
            "source": clean(self.source),
            "decision": self.decision,
            "alarm": self.alarm,
            "score": finite(self.score),
            "p_value": finite(self.p_value),
            "threshold": finite(self.threshold),
            "product": self.product,
            "probabilities": {kind: finite(p) for kind, p in self.probabilities.items()},
            "confidence": finite(self.confidence),
            "unknown": self.unknown,
            "severity": self.severity or None,
            "charge": finite(self.charge),
            "charge_unit": self.charge_unit or None,
            "pulse_rate": finite(self.pulse_rate),
            "regions": _places(self.regions),
            "parts": [_part(part) for part in self.parts],
            "model": self.model,
            "model_hash": self.model_hash,
            "wing": self.wing,
            "latency_ms": self.latency_ms,
            "notes": [clean(note) for note in self.notes],
            "error": clean(self.error),
        }


def diagnosed(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return what a record says of a recording's diagnosis, by fields of ``LineRecord``."""
    quantities, severity = diagnosis.quantities, diagnosis.severity
    charge = None if quantities is None else quantities.charge_repeated
    return {
        "score": max(diagnosis.probabilities.values(), default=None),
        "probabilities": dict(diagnosis.probabilities),
        "confidence": max(diagnosis.probabilities.values(), default=None),
        "unknown": None if diagnosis.kind is None else diagnosis.kind == UNKNOWN,
        "severity": "" if severity is None else severity.level,
        "charge": charge,
        "charge_unit": "" if quantities is None or charge is None else quantities.unit,
        "pulse_rate": None if quantities is None else quantities.rate_per_s,
    }


def as_version(payload: Payload, version: int) -> dict[str, Any]:
    """Return a payload as a version of the record has it.

    One that waited on the disk since before an update has what it had then, and nothing more is
    known of it.

    Example:
        >>> as_version({"version": 2, "severity": "high"}, 1)
        {'version': 1}
    """
    known = {k: v for k, v in payload.items() if version >= VERSION or k not in _SINCE_2}
    new = _SINCE_2 if version >= VERSION else {}
    return {**known, **{k: v for k, v in new.items() if k not in known}, "version": version}


def clean(text: str) -> str:
    """Return text as every receiver takes it: what UTF-8 cannot hold becomes ``?``."""
    return text.encode("utf-8", "replace").decode()


def decision_of(defective: bool | None) -> str:
    """Return the word for the decision on a part."""
    return {True: DEFECTIVE, False: GOOD, None: UNDECIDED}[defective]


def iso_time(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC with milliseconds.

    Example:
        >>> iso_time(1.5)
        '1970-01-01T00:00:01.500Z'
    """
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def seconds_of(payload: Payload) -> float:
    """Return the time of a payload as seconds since 1970."""
    return datetime.fromisoformat(str(payload["time"])).timestamp()


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


def _places(regions: Iterable[Region]) -> list[dict[str, Any]]:
    return [_plain(asdict(region)) for region in regions]


def _part(part: Verdict) -> dict[str, Any]:
    return {
        "source": clean(part.source),
        "decision": ERROR if part.error else decision_of(part.defective),
        "score": finite(part.score),
        "p_value": finite(part.p_value),
        "regions": _places(part.regions),
        "error": clean(part.error),
    }


def _plain(region: dict[str, Any]) -> dict[str, Any]:
    def number(value: Any) -> Any:
        return value if isinstance(value, int) else finite(value)

    return {
        name: [number(part) for part in value] if isinstance(value, tuple) else number(value)
        for name, value in region.items()
    }


def json_schema(version: int = VERSION) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a payload of a version."""

    def entry(kind: str | list[str], says: str, **more: Any) -> dict[str, Any]:
        return {"type": kind, "description": says, **more}

    number = ["number", "null"]
    properties = {
        "schema": {"const": SCHEMA},
        "version": {"const": version},
        "id": entry(
            "string",
            "Of the verdict. A record that arrives twice has the same id: drop the second.",
            pattern="^[0-9a-f]{32}$",
        ),
        "time": entry("string", "Of the verdict, ISO 8601 in UTC.", format="date-time"),
        "station": entry("string", "Name of the place (--station), or empty."),
        "source": entry("string", "Name of the part or recording."),
        "decision": entry(
            "string",
            "Of a part: good, defective or undecided. Of a recording: its kind, unknown or "
            "undecided. trend: an alarm of an asset, in the notes. error: not judged, and 'error' "
            "says why.",
        ),
        "alarm": entry(
            ["boolean", "null"],
            "Whether a part is defective; true of an asset's alarm; null where nothing was "
            "decided, and of recordings.",
        ),
        "score": entry(number, "Raw score of a part, or largest probability of a recording."),
        "p_value": entry(number, "Of a part: share of good parts that look as unusual."),
        "threshold": entry(number, "Scores above it are alarms."),
        "product": entry(
            "string", "Of which a part is, where the model is of several products; else empty."
        ),
        "probabilities": entry(
            "object", "Of a recording, by kind.", additionalProperties={"type": number}
        ),
        "confidence": entry(number, "Largest probability of a recording."),
        "unknown": entry(
            ["boolean", "null"],
            "Whether a recording is like none of the trained classes; null of parts and errors.",
        ),
        "severity": {
            "enum": ["low", "medium", "high", None],
            "description": "Of a recording's pulses, by the levels of severity.yaml or the default "
            "ones, which are of no standard; null where nothing tells it.",
        },
        "charge": entry(
            number, "Largest repeatedly occurring charge of a recording, in charge_unit."
        ),
        "charge_unit": {
            "enum": ["pC", "uncalibrated", None],
            "description": "pC where a calibration factor is given, else the recorder's own.",
        },
        "pulse_rate": entry(number, "Of a recording, pulses a second."),
        "parts": entry(
            "array",
            "Of a frame with several parts that is split: the verdict on each; else empty. The "
            "decision on the frame is that on its worst part.",
            items={
                "type": "object",
                "required": ["source", "decision", "score", "p_value", "regions", "error"],
            },
        ),
        "regions": entry(
            "array",
            "Places of the alarm on a part, the highest peak first: box (left, top, width, height) "
            "and centroid (x, y) in pixels of the picture; centroid_mm (x, y, z) in the camera's "
            "frame, area_mm2, height_mm above the support and relief_mm over the surface about it, "
            "null without 3D.",
            items={
                "type": "object",
                "properties": {
                    "box": _numbers(4),
                    "centroid": _numbers(2),
                    "pixels": {"type": "number"},
                    "peak": {"type": number},
                    "centroid_mm": {"anyOf": [_numbers(3), {"type": "null"}]},
                    "area_mm2": {"type": number},
                    "height_mm": {"type": number},
                    "relief_mm": {"type": number},
                },
                "required": [one.name for one in fields(Region)],
            },
        ),
        "model": entry("string", "Name of the model."),
        "model_hash": entry("string", "SHA-256 of the version that judged."),
        "wing": {"enum": ["detector", "classifier"], "description": "Parts or recordings."},
        "latency_ms": entry("number", "Milliseconds of reading and judging.", minimum=0),
        "notes": entry("array", "Remarks on the input.", items={"type": "string"}),
        "error": entry("string", "What was wrong with the input, or empty."),
    }
    properties = {k: v for k, v in properties.items() if version > 1 or k not in _SINCE_2}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A verdict of chiasm",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _numbers(count: int) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": ["number", "null"]},
        "minItems": count,
        "maxItems": count,
    }
