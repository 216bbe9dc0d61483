"""The records of an asset over time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from chiasm.diagnosis.monitoring.growth import Slope

Subject = Literal["charge", "pulse rate", "class", "unknown", "severity"]
# Names as in ``Quantities``, with what they are called; the first two are watched for growth.
QUANTITIES: Mapping[str, str] = {
    "charge_repeated": "largest repeatedly occurring charge",
    "rate_per_s": "pulse rate",
    "current_per_s": "average discharge current",
    "quadratic_rate_per_s": "quadratic rate",
    "power_kv_per_s": "discharge power",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """What one recording said of its asset.

    Attributes:
        source: path or name of the recording.
        time: seconds since 1970, UTC; None where only the order is known.
        kind: the class, ``"unknown"``, or None where it could not be judged.
        confidence: probability of the likeliest class; NaN where there is none.
        probabilities: by class.
        quantities: name to value; what was not measured is left out. See ``QUANTITIES``.
        unit: of charges, e.g. ``"pC"``.
        severity: ``"low"``, ``"medium"``, ``"high"`` or "".
        recorder: what must be equal for charges and rates to be compared, in words.
        digest: of the recording's values; equal ones are one recording.
        error: why it could not be judged, or "".
    """

    source: str
    time: float | None = None
    kind: str | None = None
    confidence: float = math.nan
    probabilities: Mapping[str, float] = field(default_factory=dict)
    quantities: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    severity: str = ""
    recorder: str = ""
    digest: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class TrendAlarm:
    """A change of an asset for which somebody should look at it.

    Attributes:
        subject: what changed.
        position: of the observation at which it was found, in ``AssetTrend.observations``.
        since: position of the first observation of the change.
        before, after: class, level, or median of the quantity.
        sentence: for people.
        id: 32 hexadecimal digits; the same for the same change of the same recordings.
        raised, began: times of the two positions, or None.
    """

    subject: Subject
    position: int
    since: int
    before: str | float
    after: str | float
    sentence: str
    id: str = ""
    raised: float | None = None
    began: float | None = None


@dataclass(frozen=True, slots=True)
class QuantityTrend:
    """A quantity of an asset, by one recorder.

    Attributes:
        name: of the quantity.
        recorder: that measured it.
        positions: of the observations that have it.
        slope: robust, or None of too few; by position where there are no times.
        evidence: of growth since the last alarm; it alarms at ``needed``.
        needed: one over the share of the false-alarm rate that this quantity has.
        block: recordings of which medians are compared, because neighbours resemble each other; 1
            where they are independent.
        correlation: of neighbours around their level before and after the likeliest change.
    """

    name: str
    recorder: str
    positions: tuple[int, ...]
    slope: Slope | None
    evidence: float
    needed: float
    block: int = 1
    correlation: float = 0.0


@dataclass(frozen=True, slots=True)
class AssetTrend:
    """An asset over time.

    Attributes:
        asset: its name.
        observations: that were judged, in the order of time.
        alarms: in the order in which they were found.
        quantities: by name and recorder.
        notes: what was left out, assumed or not compared, a sentence each.
        failed: observations that could not be judged.
    """

    asset: str
    observations: tuple[Observation, ...]
    alarms: tuple[TrendAlarm, ...] = ()
    quantities: tuple[QuantityTrend, ...] = ()
    notes: tuple[str, ...] = ()
    failed: tuple[Observation, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it; times are ISO 8601 in UTC."""
        return {
            "asset": self.asset,
            "alarms": [_alarm(alarm) for alarm in self.alarms],
            "quantities": [_quantity(one) for one in self.quantities],
            "observations": [_observation(one) for one in self.observations],
            "failed": [{"source": one.source, "error": one.error} for one in self.failed],
            "notes": list(self.notes),
        }


def alarm_id(asset: str, subject: str, after: str, found_at: Observation) -> str:
    """Return the id of an alarm: the same asset, change and recording give the same."""
    place = (asset, subject, after, found_at.digest or found_at.source, str(found_at.time))
    return hashlib.sha256("\n".join(place).encode("utf-8", "replace")).hexdigest()[:32]


def iso(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC, without a fraction."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(round(seconds), UTC).isoformat().replace("+00:00", "Z")


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _alarm(alarm: TrendAlarm) -> dict[str, Any]:
    def plain(value: str | float) -> str | float | None:
        return value if isinstance(value, str) else finite(value)

    return {
        "id": alarm.id,
        "subject": alarm.subject,
        "raised": iso(alarm.raised),
        "since": iso(alarm.began),
        "position": alarm.position,
        "since_position": alarm.since,
        "before": plain(alarm.before),
        "after": plain(alarm.after),
        "sentence": alarm.sentence,
    }


def _quantity(one: QuantityTrend) -> dict[str, Any]:
    slope = one.slope
    return {
        "name": one.name,
        "recorder": one.recorder,
        "recordings": len(one.positions),
        "slope": None
        if slope is None
        else {
            "per_day": finite(slope.per_day),
            "low": finite(slope.low),
            "high": finite(slope.high),
            "confidence": slope.confidence,
        },
        "evidence": finite(one.evidence),
        "evidence_of_alarm": finite(one.needed),
        "block": one.block,
        "correlation": finite(one.correlation),
    }


def _observation(one: Observation) -> dict[str, Any]:
    return {
        "source": one.source,
        "time": iso(one.time),
        "kind": one.kind,
        "confidence": finite(one.confidence),
        "severity": one.severity or None,
        "quantities": {name: finite(value) for name, value in one.quantities.items()},
        "unit": one.unit,
        "recorder": one.recorder,
    }
