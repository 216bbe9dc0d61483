"""Schemas of the service's requests and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Wing = Literal["detector", "classifier"]
Correctness = Literal["false alarm", "missed", "right"]


class Schema(BaseModel):
    """A part of an answer; fields that the schema does not name are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorDetail(Schema):
    """Why a request was refused: a word for programs, a sentence for people."""

    code: str
    message: str


class ErrorAnswer(Schema):
    """Every answer with a status of 400 or more."""

    error: ErrorDetail


class PartVerdict(Schema):
    """Verdict on one part; score, p-value and decision are three separate fields."""

    id: str
    time: datetime
    model: str
    model_hash: str
    station: str
    wing: Literal["detector"] = "detector"
    source: str
    score: float
    p_value: float | None = Field(
        description="Conformal, against held-out normals; None without calibration."
    )
    defective: bool | None = Field(description="Whether the score is above the threshold.")
    threshold: float | None = Field(description="Scores above it are alarms.")
    false_alarm_rate: float | None = Field(description="That the threshold promises.")
    confidence: float | None = Field(
        description="With which this calibration keeps the rate; None promises it on average over "
        "calibrations."
    )
    latency_ms: float = Field(description="From the whole request to the verdict.")
    notes: list[str]
    links: dict[str, str] = Field(
        description="Pictures of the newest verdicts: grounds rgb and depth, heat maps with "
        "transparency heat_rgb and heat_depth, map (float32, numpy), points (rows of float32 x, "
        "y, z in metres, score, red, green, blue, heat)."
    )


class SeverityFacts(Schema):
    """How severe the pulses of a recording are, whatever their class."""

    level: Literal["low", "medium", "high"]
    reasons: list[str]
    levels: str = Field(description="Name of the rule; the default levels are nobody's limits.")


class SourceFacts(Schema):
    """One of several sources that are active in a recording."""

    kind: str
    probability: float
    share_of_pulses: float
    share_of_charge: float
    phases_deg: list[tuple[float, float]]
    probabilities: dict[str, float]
    quantities: dict[str, Any] | None


class RecordingDiagnosis(Schema):
    """Diagnosis of one recording."""

    id: str
    time: datetime
    model: str
    model_hash: str
    station: str
    wing: Literal["classifier"] = "classifier"
    source: str
    kind: str | None = Field(
        description="'unknown' if the recording is like none of the trained classes, or the "
        "evidence is too weak; the notes say which."
    )
    probabilities: dict[str, float]
    opinions: dict[str, dict[str, float]]
    uncertainty: float | None
    conflict: float | None
    quantities: dict[str, Any] | None = Field(
        None,
        description="By the names of IEC 60270, with units; 'uncalibrated' are the recorder's own.",
    )
    severity: SeverityFacts | None = None
    sources: list[SourceFacts] = Field([], description="Where several are active at once.")
    distance: float | None = Field(None, description="From the trained classes.")
    distance_limit: float | None = Field(None, description="Above it the recording is 'unknown'.")
    nearest_kind: str = Field("", description="The trained class that is nearest.")
    latency_ms: float
    notes: list[str]
    links: dict[str, str] = Field(
        {}, description="The pattern as PNG; ?theme=dark draws it for a dark page."
    )


Prediction = PartVerdict | RecordingDiagnosis


class Histogram(Schema):
    """Counts between edges; one more edge than counts."""

    edges: list[float]
    counts: list[int]


class ModelFacts(Schema):
    """A model of this service."""

    name: str
    wing: Wing
    method: str
    model_hash: str
    precision: str
    modalities: list[str]
    kinds: list[str]
    false_alarm_rate: float | None
    confidence: float | None
    threshold: float | None
    promise: str = Field(
        description="What is promised of false alarms, on average and with a confidence."
    )
    calibration_count: int
    calibration: Histogram | None
    reloads: int
    products: list[str] = Field(
        [], description="Of a model of several products, which are models of their own names."
    )


class Correction(Schema):
    """An operator's correction of a verdict."""

    says: Correctness
    by: str = Field("", max_length=80)
    time: datetime | None = None


class LoggedRow(Schema):
    """A verdict from the log, with its newest correction."""

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
    station: str
    asset: str = Field(description="Of a recording: name of the apparatus, or empty.")
    correction: Correction | None


class LogPage(Schema):
    """Verdicts, newest first, and how many match the filter in all."""

    verdicts: list[LoggedRow]
    total: int


class Drift(Schema):
    """Comparison of recent scores with calibration scores."""

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


class ServedVersion(Schema):
    """A model as a service serves it."""

    model_hash: str
    calibration: str = Field(description="Digest of scores, rate and confidence that decide.")
    threshold: float | None


class ServiceReport(Schema):
    """A service that shares the log, as it last reported."""

    name: str
    station: str
    started: datetime
    seen: datetime
    silent: bool = Field(description="It has not reported for a while.")
    chiasm: str
    keep_days: float
    waiting: int = Field(description="Verdicts on its disk that are not in the database yet.")
    models: dict[str, ServedVersion]


class LogFacts(Schema):
    """Where the verdicts of this service go."""

    mode: Literal["database", "delivering", "spool"]
    since: datetime
    waiting: int
    writable: bool


class OutletFacts(Schema):
    """A system of the plant that gets the verdicts."""

    name: str
    kind: str = Field(description="mqtt, webhook, modbus or opcua.")
    where: str = Field(description="The receiver, without secrets.")
    state: Literal["ready", "sent", "waiting", "failed"] = Field(
        description="ready: nothing was to be sent yet; failed: the receiver is away."
    )
    waiting: int = Field(description="Verdicts on the disk that are not sent yet.")
    sent: int = Field(description="Verdicts since the start.")
    last_sent: datetime | None
    aside: int = Field(description="Verdicts that were refused or too old, kept on the disk.")
    why: str = Field(description="The receiver is away, or the last verdict was set aside.")


class RuleFacts(Schema):
    """What decides on parts, and what is promised."""

    threshold: float | None
    false_alarm_rate: float | None
    confidence: float | None
    promise: str


class ThresholdFacts(Schema):
    """A threshold beside another one, and what it would have said of recent parts."""

    model: str
    before: RuleFacts
    after: RuleFacts
    recent: int = Field(description="Newest verdicts of this version that are counted.")
    alarms_before: int
    alarms_after: int
    may_change: bool = Field(description="Whether the key of this request may change it.")


class ThresholdRequest(BaseModel):
    """A false-alarm rate to promise from now on."""

    model_config = ConfigDict(extra="forbid")
    false_alarm_rate: float = Field(gt=0, lt=1)
    confidence: float | None = Field(
        None, gt=0, lt=1, description="None promises the rate on average over calibrations."
    )


class ServiceState(Schema):
    """This service, those that share its log, and what an operator should mend."""

    name: str
    station: str
    log: LogFacts
    notices: list[str]
    services: list[ServiceReport] = Field(description="Those of the last day, as last read.")
    stations: list[str] = Field(description="All that have reported, for filters.")
    outlets: list[OutletFacts] = Field([], description="Of this service.")


class CorrectionRequest(BaseModel):
    """A correction as a client sends it."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    says: Correctness
    by: str = Field("", max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")


def utc_time(seconds: float) -> datetime:
    """Return seconds since 1970, as the log stores them, as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def logged_row(row: dict[str, Any]) -> LoggedRow:
    """Return a row of the log as an answer."""
    columns = {name: row[name] for name in LoggedRow.model_fields.keys() & row.keys()}
    correction = None
    if row["says"] is not None:
        correction = Correction(says=row["says"], by=row["by"], time=utc_time(row["corrected"]))
    return LoggedRow(**{**columns, "time": utc_time(row["time"]), "correction": correction})
