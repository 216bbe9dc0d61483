"""The work that a request asks for: decode, judge, log; in a thread of its own."""

from __future__ import annotations

import hashlib
import math
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from chiasm.detection.decision import alarm_threshold, display_threshold
from chiasm.detection.report.overlay import HeatScale
from chiasm.errors import ChiasmError
from chiasm.samples import Diagnosis, Verdict
from chiasm.service.answers import PartVerdict, RecordingDiagnosis, moment
from chiasm.service.decoding import Limits, decode_part, decode_recording
from chiasm.service.model_pool import HostedModel, Runtime
from chiasm.service.parts_of_request import Upload, safe_name
from chiasm.service.pictures import Kept, KeptViews
from chiasm.service.refusals import shortened
from chiasm.service.state_routes import Observation
from chiasm.service.verdict_log import LoggedVerdict, VerdictLog

Files = Mapping[str, Upload]

Fields = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Judge:
    """Everything that judging a request needs.

    Attributes:
        log: every verdict enters it before it is answered.
        kept: views of the newest verdicts.
        limits: of what is decoded.
        observation: that counts verdicts.
        preparing: where requests are decoded and prepared, so many at a time as have room there.
    """

    log: VerdictLog
    kept: KeptViews
    limits: Limits
    observation: Observation
    preparing: threading.Semaphore

    def judge(
        self, model: HostedModel, files: Files, fields: Fields, began: float
    ) -> PartVerdict | RecordingDiagnosis:
        """Judge one request; ``began`` is the ``time.monotonic()`` at which its body was there.

        Raises ``ChiasmError`` in a sentence, which is logged too, as is whatever was not foreseen.
        """
        started = time.monotonic()
        row = _Row(
            id=uuid.uuid4().hex,
            time=round(time.time(), 6),  # as fine as the answer says it
            model=model.name,
            source=_source(files, fields),
            input_sha256=_sha256(files),
        )
        with model.in_use() as runtime:
            try:
                if runtime.wing == "detector":
                    answer, logged = self._part(runtime, row, files, fields, began)
                else:
                    answer, logged = self._recording(runtime, row, files, fields, began)
            except ChiasmError as error:
                self._failed(runtime, row, str(error), began)
                raise
            except Exception as error:
                # The log has a row for whatever could not be judged, foreseen or not.
                found = f"{type(error).__name__}: {shortened(str(error), 400)}"
                self._failed(runtime, row, f"The service failed at this input ({found}).", began)
                raise
        self.log.write(logged)
        self.observation.verdicts.labels(model.name, logged.decision).inc()
        self.observation.judging.labels(model.name).observe(time.monotonic() - started)
        return answer

    def _part(
        self, runtime: Runtime, row: _Row, files: Files, fields: Fields, began: float
    ) -> tuple[PartVerdict | RecordingDiagnosis, LoggedVerdict]:
        with self.preparing:
            part = decode_part(files, fields, self.limits)
            judged = runtime.prepared(part.rgb, part.xyz, source=row.source)
        verdict: Verdict = judged()
        deployment = runtime.deployment
        normals, rate = deployment.calibration_scores, deployment.false_alarm_rate
        threshold = alarm_threshold(normals, rate)
        links = {}
        if verdict.anomaly_map is not None:
            scale = HeatScale.of(normals, display_threshold(normals or (verdict.score,), rate))
            again = partial(decode_part, files, fields, self.limits)
            held = sum(len(file.content) for file in files.values())
            self.kept.put(row.id, Kept(verdict.anomaly_map.scores, scale, again, held))
            links = _links(row.id, rgb=part.rgb is not None, xyz=part.xyz is not None)
        answer = PartVerdict(
            id=row.id,
            time=moment(row.time),
            model=row.model,
            model_hash=runtime.model_hash,
            source=row.source,
            score=verdict.score,
            p_value=known(verdict.p_value),
            defective=verdict.defective,
            threshold=threshold,
            false_alarm_rate=known(deployment.false_alarm_rate),
            latency_ms=_milliseconds(began),
            notes=list(verdict.notes),
            links=links,
        )
        decision = {True: "defective", False: "good", None: "undecided"}[verdict.defective]
        return answer, row.logged(
            runtime,
            score=answer.score,
            p_value=answer.p_value,
            threshold=threshold,
            decision=decision,
            latency_ms=answer.latency_ms,
        )

    def _recording(
        self, runtime: Runtime, row: _Row, files: Files, fields: Fields, began: float
    ) -> tuple[PartVerdict | RecordingDiagnosis, LoggedVerdict]:
        form = getattr(runtime.deployment, "recording", None)
        with self.preparing:
            recording = decode_recording(
                files, fields, self.limits, channels=1 if form is None else form.channels
            )
            diagnosed = runtime.prepared(
                image=recording.image,
                series=recording.series,
                frequency=recording.frequency,
                samples_per_cycle=recording.samples_per_cycle,
                source=row.source,
            )
        diagnosis: Diagnosis = diagnosed()
        answer = RecordingDiagnosis(
            id=row.id,
            time=moment(row.time),
            model=row.model,
            model_hash=runtime.model_hash,
            source=row.source,
            kind=diagnosis.kind,
            probabilities=dict(diagnosis.probabilities),
            opinions={name: dict(one) for name, one in diagnosis.opinions.items()},
            uncertainty=known(diagnosis.uncertainty),
            conflict=known(diagnosis.conflict),
            latency_ms=_milliseconds(began),
            notes=list(diagnosis.notes),
        )
        return answer, row.logged(
            runtime,
            score=max(answer.probabilities.values(), default=None),
            decision=diagnosis.kind or "undecided",
            latency_ms=answer.latency_ms,
        )

    def _failed(self, runtime: Runtime, row: _Row, error: str, began: float) -> None:
        logged = row.logged(runtime, decision="error", latency_ms=_milliseconds(began), error=error)
        self.log.write(logged)
        self.observation.verdicts.labels(row.model, "error").inc()


@dataclass(frozen=True, slots=True)
class _Row:
    """What is known of a verdict before it is given."""

    id: str
    time: float
    model: str
    source: str
    input_sha256: str

    def logged(
        self,
        runtime: Runtime,
        *,
        decision: str,
        latency_ms: float,
        score: float | None = None,
        p_value: float | None = None,
        threshold: float | None = None,
        error: str = "",
    ) -> LoggedVerdict:
        """The whole row."""
        return LoggedVerdict(
            id=self.id,
            time=self.time,
            model=self.model,
            model_hash=runtime.model_hash,
            wing=runtime.wing,
            source=self.source,
            input_sha256=self.input_sha256,
            score=score,
            p_value=p_value,
            threshold=threshold,
            decision=decision,
            latency_ms=latency_ms,
            error=error,
        )


def _source(files: Files, fields: Fields) -> str:
    if fields.get("source", "").strip():
        return safe_name(fields["source"])
    return next((files[role].name for role in sorted(files)), "upload")


def _sha256(files: Files) -> str:
    whole = hashlib.sha256()
    for role in sorted(files):
        # The length tells where one file ends and the next begins.
        whole.update(f"{role} {len(files[role].content)}\n".encode("utf-8", "replace"))
        whole.update(files[role].content)
    return whole.hexdigest()


def _links(verdict: str, *, rgb: bool, xyz: bool) -> dict[str, str]:
    base = f"/v1/verdicts/{verdict}"
    links = {"map": f"{base}/map.npy"}
    if rgb:
        links |= {"rgb": f"{base}/rgb.png", "heat_rgb": f"{base}/map.png"}
    if xyz:
        links |= {"depth": f"{base}/depth.png", "heat_depth": f"{base}/map.png"}
        links["points"] = f"{base}/points"
    return links


def known(value: float) -> float | None:
    """A figure as JSON can hold it: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def _milliseconds(since: float) -> float:
    return round(1000 * (time.monotonic() - since), 3)
