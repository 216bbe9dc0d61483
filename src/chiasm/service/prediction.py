"""Decode, predict and log one request; runs in a worker thread."""

from __future__ import annotations

import hashlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from chiasm.detection.report.overlay import HeatScale
from chiasm.diagnosis.prediction.outcomes import source_record
from chiasm.diagnosis.quantities.severity import SeverityLevels, rated
from chiasm.errors import ChiasmError, DataError
from chiasm.line.record import LineRecord, Payload, diagnosed
from chiasm.samples import Diagnosis, RecordingSample, Verdict
from chiasm.service.assets.facts import check_asset, facts_of
from chiasm.service.declared_size import Limits
from chiasm.service.decoding import decode_part, decode_recording
from chiasm.service.log.record import LoggedVerdict
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.model_pool import HostedModel, HostedProducts
from chiasm.service.multipart import Upload, safe_name
from chiasm.service.pictures import PatternSource, ViewCache, ViewSource
from chiasm.service.refusals import Refusal, shortened
from chiasm.service.schemas import (
    PartVerdict,
    Prediction,
    RecordingDiagnosis,
    SeverityFacts,
    SourceFacts,
    utc_time,
)
from chiasm.service.state_routes import ServiceMetrics

Files = Mapping[str, Upload]
Hosted = HostedModel | HostedProducts

Fields = Mapping[str, str]

_SHARED = (
    *("id", "time", "source", "decision", "station", "model", "model_hash", "wing", "score"),
    *("p_value", "threshold", "latency_ms", "error"),
)


@dataclass(frozen=True, eq=False)
class RequestPredictor:
    """Answers requests for a verdict or a diagnosis; threads may share it.

    Attributes:
        log: every verdict is written to it before it is answered.
        views: sources of the newest verdicts' pictures.
        limits: of what is decoded.
        metrics: counters of verdicts.
        preparing: limits how many requests are decoded and prepared at a time.
        send: hands a record to the plant's systems; raises ``OSError`` if it cannot be kept.
        levels: of severity; None takes the default ones.
    """

    log: VerdictLog
    views: ViewCache
    limits: Limits
    metrics: ServiceMetrics
    preparing: threading.Semaphore
    send: Callable[[Payload], None] = lambda record: None
    levels: SeverityLevels | None = None

    def predict(
        self, model: Hosted, files: Files, fields: Fields, received: float, verdict: str = ""
    ) -> Prediction:
        """Answer one request, whose body had arrived at ``received`` (``time.monotonic()``).

        ``verdict`` is its id; "" gives it a new one. Raises ``ChiasmError`` in a sentence; the log
        gets a row for every error.
        """
        started = time.monotonic()
        with model.in_use() as runtime:
            row = LoggedVerdict(
                id=verdict or uuid.uuid4().hex,
                time=round(time.time(), 6),  # the precision of the answer
                model=model.name,
                model_hash=runtime.model_hash,
                wing=runtime.wing,
                source=_source(files, fields),
                input_sha256=_sha256(files),
                station=self.log.station,
            )
            predict = self._part if runtime.wing == "detector" else self._recording
            try:
                answer, row, views, said = predict(model, runtime, row, files, fields, received)
            except ChiasmError as error:
                self._log_error(row, str(error), received)
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {shortened(str(error), 400)}"
                self._log_error(row, f"The service failed at this input ({reason}).", received)
                raise
        self.log.write(row)
        self._send(row, said)
        # Not before: an id that belongs to another part was refused.
        if views is not None:
            self.views.put(row.id, views)
        self.metrics.verdicts.labels(row.model, row.decision).inc()
        self.metrics.processing.labels(row.model).observe(time.monotonic() - started)
        return answer

    def _part(
        self,
        model: Hosted,
        runtime: Any,
        row: LoggedVerdict,
        files: Files,
        fields: Fields,
        received: float,
    ) -> tuple[Prediction, LoggedVerdict, ViewSource | None, dict[str, Any]]:
        decode = partial(decode_part, files, fields, self.limits)
        with self.preparing:
            part = decode()
            try:
                predict = runtime.prepared(part.rgb, part.xyz, source=row.source)
            except DataError as error:
                if not part.notes:
                    raise
                # What was assumed of the file may be why it does not fit.
                noted = " ".join(part.notes)
                raise DataError(f"{error} Noted while it was read: {noted}") from error
        verdict: Verdict = predict()
        name, decided = model.decided(runtime, verdict)
        normals, rule = decided.deployment.calibration_scores, decided.deployment.alarm_rule
        threshold = rule.threshold
        links, views = {}, None
        if verdict.anomaly_map is not None:
            size = sum(len(file.content) for file in files.values())
            scale = HeatScale.of(normals, rule.display_threshold if normals else verdict.score)
            views = ViewSource(verdict.anomaly_map.scores, scale, decode, size)
            links = _links(row.id, rgb=part.rgb is not None, xyz=part.xyz is not None)
        row = replace(
            row,
            model=name,
            model_hash=decided.model_hash,
            score=verdict.score,
            p_value=finite_or_none(verdict.p_value),
            threshold=threshold,
            decision={True: "defective", False: "good", None: "undecided"}[verdict.defective],
            latency_ms=_milliseconds(received),
        )
        answer = PartVerdict(
            id=row.id,
            time=utc_time(row.time),
            model=row.model,
            model_hash=row.model_hash,
            station=row.station,
            source=row.source,
            score=verdict.score,
            p_value=row.p_value,
            defective=verdict.defective,
            threshold=threshold,
            false_alarm_rate=finite_or_none(rule.promised_rate),
            confidence=rule.confidence,
            latency_ms=row.latency_ms,
            notes=[*part.notes, *verdict.notes],
            links=links,
        )
        said = {
            "alarm": verdict.defective,
            "product": verdict.product,
            "notes": answer.notes,
            "regions": verdict.regions,
            "parts": verdict.parts,
        }
        return answer, row, views, said

    def _recording(
        self,
        model: Hosted,
        runtime: Any,
        row: LoggedVerdict,
        files: Files,
        fields: Fields,
        received: float,
    ) -> tuple[Prediction, LoggedVerdict, PatternSource | None, dict[str, Any]]:
        form = runtime.deployment.recording
        assert form is not None
        with self.preparing:
            recording = decode_recording(
                files, fields, self.limits, channels=form.recorded_channels
            )
            check_asset(fields)
            predict = runtime.prepared(
                image=recording.image,
                series=recording.series,
                frequency=recording.frequency,
                samples_per_cycle=recording.samples_per_cycle,
                source=row.source,
                pulses=recording.pulses,
                system=recording.system,
            )
        diagnosis: Diagnosis = rated(predict(), self.levels)
        sample = RecordingSample(
            image=recording.image,
            series=recording.series,
            frequency=recording.frequency,
            samples_per_cycle=recording.samples_per_cycle,
            source=row.source,
            pulses=recording.pulses,
            system=recording.system,
        )
        severity, quantities = diagnosis.severity, diagnosis.quantities
        asset, facts = facts_of(fields, sample, diagnosis, row.time)
        row = replace(
            row,
            asset=asset,
            facts=facts,
            score=max(diagnosis.probabilities.values(), default=None),
            decision=diagnosis.kind or "undecided",
            latency_ms=_milliseconds(received),
        )
        answer = RecordingDiagnosis(
            id=row.id,
            time=utc_time(row.time),
            model=row.model,
            model_hash=row.model_hash,
            station=row.station,
            source=row.source,
            kind=diagnosis.kind,
            probabilities=dict(diagnosis.probabilities),
            opinions={name: dict(opinion) for name, opinion in diagnosis.opinions.items()},
            uncertainty=finite_or_none(diagnosis.uncertainty),
            conflict=finite_or_none(diagnosis.conflict),
            quantities=None if quantities is None else quantities.named(),
            severity=None if severity is None else SeverityFacts(**asdict(severity)),
            sources=[SourceFacts(**source_record(source)) for source in diagnosis.sources],
            distance=finite_or_none(diagnosis.distance),
            distance_limit=finite_or_none(diagnosis.distance_limit),
            nearest_kind=diagnosis.nearest_kind,
            latency_ms=row.latency_ms,
            notes=[*recording.notes, *diagnosis.notes],
            links={"pattern": f"/v1/verdicts/{row.id}/pattern.png"},
        )
        # The score is in the row.
        said = {k: v for k, v in diagnosed(diagnosis).items() if k != "score"}
        said |= {"notes": answer.notes}
        return answer, row, PatternSource(sample, diagnosis, runtime), said

    def _send(self, row: LoggedVerdict, said: Mapping[str, Any]) -> None:
        try:
            facts = {name: getattr(row, name) for name in _SHARED}
            self.send(LineRecord(**facts, **said).payload())
        except OSError as error:
            # The client sends the part again: a verdict that the line does not get is none.
            raise Refusal(
                503,
                "outlets_unavailable",
                f"The verdict cannot be kept for the plant's systems ({error.strerror or error}); "
                "the operator of this service should free some space (option --spool).",
                retry_after=5,
            ) from error

    def _log_error(self, row: LoggedVerdict, error: str, received: float) -> None:
        row = replace(row, latency_ms=_milliseconds(received), error=error)
        self.log.write(row)
        self._send(row, {})
        self.metrics.verdicts.labels(row.model, row.decision).inc()


def _source(files: Files, fields: Fields) -> str:
    if fields.get("source", "").strip():
        return safe_name(fields["source"])
    return next((files[role].name for role in sorted(files)), "upload")


def _sha256(files: Files) -> str:
    digest = hashlib.sha256()
    for role in sorted(files):
        # The length tells where one file ends and the next begins.
        digest.update(f"{role} {len(files[role].content)}\n".encode("utf-8", "replace"))
        digest.update(files[role].content)
    return digest.hexdigest()


def _links(verdict: str, *, rgb: bool, xyz: bool) -> dict[str, str]:
    base = f"/v1/verdicts/{verdict}"
    links = {"map": f"{base}/map.npy"}
    if rgb:
        links |= {"rgb": f"{base}/rgb.png", "heat_rgb": f"{base}/map.png"}
    if xyz:
        links |= {"depth": f"{base}/depth.png", "heat_depth": f"{base}/map.png"}
        links["points"] = f"{base}/points"
    return links


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def _milliseconds(since: float) -> float:
    return round(1000 * (time.monotonic() - since), 3)
