"""What the service answers, as schemas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """A part of an answer: nothing in it that the schema does not name."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Fault(Answer):
    """Why a request was refused: a word for programs, a sentence for people."""

    code: str
    message: str


class Refused(Answer):
    """Every answer with a status of 400 or more."""

    error: Fault


class PartVerdict(Answer):
    """What is said of one part; score, p-value and decision are three separate fields."""

    id: str
    time: datetime
    model: str
    model_hash: str
    wing: Literal["detector"] = "detector"
    source: str
    score: float
    p_value: float | None = Field(description="Conformal, against normals held out; None without.")
    defective: bool | None = Field(description="At the model's false-alarm rate.")
    threshold: float | None = Field(description="Scores above it are alarms.")
    false_alarm_rate: float | None
    latency_ms: float = Field(description="From the whole request to the verdict.")
    notes: list[str]
    links: dict[str, str] = Field(
        description="Pictures of the newest verdicts: grounds rgb and depth, heat maps with "
        "transparency heat_rgb and heat_depth, map (float32, numpy), points (rows of float32 x, "
        "y, z in metres, score, red, green, blue)."
    )


class RecordingDiagnosis(Answer):
    """What is said of one recording."""

    id: str
    time: datetime
    model: str
    model_hash: str
    wing: Literal["classifier"] = "classifier"
    source: str
    kind: str | None = Field(description="'unknown' where the evidence is too weak.")
    probabilities: dict[str, float]
    opinions: dict[str, dict[str, float]]
    uncertainty: float | None
    conflict: float | None
    latency_ms: float
    notes: list[str]


class Histogram(Answer):
    """Counts between edges; one more edge than counts."""

    edges: list[float]
    counts: list[int]


class ModelFacts(Answer):
    """A model that this service has."""

    name: str
    wing: Literal["detector", "classifier"]
    method: str
    model_hash: str
    precision: str
    modalities: list[str]
    kinds: list[str]
    false_alarm_rate: float | None
    threshold: float | None
    calibration_count: int
    calibration: Histogram | None
    reloads: int


class LoggedRow(Answer):
    """A verdict as it stands in the log, with the newest correction."""

    id: str
    time: datetime
    model: str
    model_hash: str
    wing: str
    source: str
    input_sha256: str
    score: float | None
    p_value: float | None
    threshold: float | None
    decision: str
    latency_ms: float
    error: str
    correction: Correction | None


class Correction(Answer):
    """What an operator said of a verdict."""

    says: Literal["false alarm", "missed", "right"]
    by: str = Field("", max_length=80)
    time: datetime | None = None


class LogPage(Answer):
    """Verdicts, newest first, and how many the filter leaves in all."""

    verdicts: list[LoggedRow]
    total: int


class Drift(Answer):
    """Recent scores beside calibration scores."""

    model: str
    recent: int
    calibration: int
    statistic: float | None
    p_value: float | None
    drifted: bool
    sentence: str
    edges: list[float]
    recent_counts: list[int]
    calibration_counts: list[int]


class Said(BaseModel):
    """A correction as it is sent."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    says: Literal["false alarm", "missed", "right"]
    by: str = Field("", max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")


def moment(seconds: float) -> datetime:
    """A time of the log, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def logged_row(row: dict[str, Any]) -> LoggedRow:
    """A row of the log as an answer."""
    said = {key: row[key] for key in ("says", "by")}
    known = {key: value for key, value in row.items() if key in LoggedRow.model_fields}
    correction = None
    if said["says"] is not None:
        correction = Correction(**said, time=moment(row["corrected"]))
    return LoggedRow(**{**known, "time": moment(row["time"]), "correction": correction})


LoggedRow.model_rebuild()
