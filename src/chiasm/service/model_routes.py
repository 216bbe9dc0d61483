"""``/v1/models``: the models, their drift, and loading them again."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter, Query

from chiasm.service.drift import drift
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.model_pool import HostedModel, ModelPool
from chiasm.service.prediction import finite_or_none
from chiasm.service.schemas import Drift, Histogram, ModelFacts

_BINS = 30


def model_routes(pool: ModelPool, log: VerdictLog) -> APIRouter:
    """Return the routes about models."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])

    @routes.get("", summary="All models", response_model=list[ModelFacts])
    def models() -> list[ModelFacts]:
        return [facts(model) for model in pool]

    @routes.get("/{name}", summary="One model", response_model=ModelFacts)
    def one(name: str) -> ModelFacts:
        return facts(pool[name])

    @routes.post("/{name}/reload", summary="Load a model's folder again", response_model=ModelFacts)
    def reload(name: str) -> ModelFacts:
        """The new version is warmed up before it takes over; the old one ends its requests."""
        pool[name].reload()
        return facts(pool[name])

    @routes.get("/{name}/drift", summary="Recent scores beside calibration", response_model=Drift)
    def drifting(
        name: str,
        recent: int = Query(200, ge=1, le=10_000),
        station: str | None = Query(None, max_length=64),
    ) -> Drift:
        """Kolmogorov-Smirnov test of the newest scores of this version, of all stations or one."""
        with pool[name].in_use() as runtime:
            deployment, version = runtime.deployment, runtime.model_hash
        return drift(
            name,
            log.recent_scores(name, version, recent, station),
            deployment.calibration_scores,
            false_alarm_rate=finite_or_none(deployment.alarm_rule.promised_rate),
        )

    return routes


def facts(model: HostedModel) -> ModelFacts:
    """Describe a model."""
    with model.in_use() as runtime:
        deployment = runtime.deployment
        rule = deployment.alarm_rule
        scores = deployment.calibration_scores
        calibration = None
        if scores:
            counts, edges = np.histogram(scores, bins=_BINS)
            calibration = Histogram(edges=edges.tolist(), counts=counts.tolist())
        return ModelFacts(
            name=model.name,
            wing=runtime.wing,
            method=deployment.method,
            model_hash=runtime.model_hash,
            precision=deployment.precision,
            modalities=list(deployment.modalities),
            kinds=list(deployment.kinds),
            false_alarm_rate=finite_or_none(deployment.alarm_rule.promised_rate),
            confidence=rule.confidence,
            threshold=rule.threshold,
            promise=rule.promise if runtime.wing == "detector" else "",
            calibration_count=len(scores),
            calibration=calibration,
            reloads=model.reloads,
        )
