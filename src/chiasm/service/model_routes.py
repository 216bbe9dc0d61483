"""``/v1/models``: the models, their drift, and loading them again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Query, Request

from chiasm.deploy.threshold import rule_at, set_threshold
from chiasm.detection.decision import AlarmRule
from chiasm.service.drift import drift
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.middleware import is_among
from chiasm.service.model_pool import HostedModel, HostedProducts, ModelPool
from chiasm.service.prediction import finite_or_none
from chiasm.service.refusals import Refusal
from chiasm.service.schemas import (
    Drift,
    Histogram,
    ModelFacts,
    RuleFacts,
    ThresholdFacts,
    ThresholdRequest,
)

logger = logging.getLogger(__name__)

_BINS = 30


def model_routes(
    pool: ModelPool, log: VerdictLog, *, admin_keys: tuple[str, ...] = ()
) -> APIRouter:
    """Return the routes about models; only ``admin_keys`` may change thresholds."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    changing = threading.Lock()

    @routes.get("", summary="All models", response_model=list[ModelFacts])
    def models() -> list[ModelFacts]:
        """A model of several products is listed by itself as well, with ``products``."""
        return [*map(facts_of_products, pool.products), *map(facts, pool)]

    @routes.get("/{name}", summary="One model", response_model=ModelFacts)
    def one(name: str) -> ModelFacts:
        several = {model.name: model for model in pool.products}
        return facts_of_products(several[name]) if name in several else facts(pool[name])

    @routes.post("/{name}/reload", summary="Load a model's folder again", response_model=ModelFacts)
    def reload(name: str) -> ModelFacts:
        """The new version is warmed up before it takes over; the old one ends its requests."""
        pool[name].reload()
        return facts(pool[name])

    @routes.get(
        "/{name}/threshold",
        summary="What another false-alarm rate would change",
        response_model=ThresholdFacts,
    )
    def threshold(
        request: Request,
        name: str,
        false_alarm_rate: float | None = Query(None, gt=0, lt=1),
        confidence: float | None = Query(None, gt=0, lt=1),
        recent: int = Query(200, ge=1, le=10_000),
    ) -> ThresholdFacts:
        """By the same calibration scores. Without a rate it is the model's own threshold."""
        hosted = pool[name]
        with hosted.in_use() as runtime:
            _check_decides(hosted.name, runtime.wing)
            rule, version = runtime.deployment.alarm_rule, runtime.model_hash
        after = rule
        if false_alarm_rate is not None:
            after = rule_at(rule, false_alarm_rate, confidence, confidence is None).require()
        scores = log.recent_scores(name, version, recent, None)
        return ThresholdFacts(
            model=name,
            before=_rule_facts(rule),
            after=_rule_facts(after),
            recent=len(scores),
            alarms_before=_alarms(scores, rule.threshold),
            alarms_after=_alarms(scores, after.threshold),
            may_change=is_among(request.headers.get("x-api-key", ""), admin_keys),
        )

    @routes.post(
        "/{name}/threshold", summary="Promise another false-alarm rate", response_model=ModelFacts
    )
    def change_threshold(request: Request, name: str, wanted: ThresholdRequest) -> ModelFacts:
        """Needs a key of an administrator. The former calibration is kept beside the model.

        All services that watch the same folder adopt it.
        """
        hosted = pool[name]
        if not is_among(request.headers.get("x-api-key", ""), admin_keys):
            raise Refusal(
                403,
                "admin_only",
                "A threshold is changed with an administrator's key, and this request has none: "
                "start the service with --admin-key-file FILE, and send one of its keys. At the "
                f"station itself: chiasm threshold {hosted.folder} --false-alarm-rate "
                f"{wanted.false_alarm_rate:g}.",
            )
        with hosted.in_use() as runtime:
            _check_decides(hosted.name, runtime.wing)
        with changing:
            change = set_threshold(
                hosted.folder,
                false_alarm_rate=wanted.false_alarm_rate,
                confidence=wanted.confidence,
                on_average=wanted.confidence is None,
            )
            hosted.reload()
        logger.info("The threshold of %s was changed by HTTP. %s", name, change)
        return facts(hosted)

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


def _check_decides(name: str, wing: str) -> None:
    if wing != "detector":
        raise Refusal(422, "no_threshold", f"{name} is a {wing}, which has no threshold.")


def _rule_facts(rule: AlarmRule) -> RuleFacts:
    return RuleFacts(
        threshold=rule.threshold,
        false_alarm_rate=finite_or_none(rule.promised_rate),
        confidence=rule.confidence,
        promise=rule.promise,
    )


def _alarms(scores: Sequence[float], threshold: float | None) -> int:
    return 0 if threshold is None else sum(score > threshold for score in scores)


def facts_of_products(model: HostedProducts) -> ModelFacts:
    """Describe a model of several products; each has a threshold and a promise of its own."""
    first = next(iter(model.members.values()))
    with model.in_use() as runtime:
        return facts(first).model_copy(
            update={
                "name": model.name,
                "model_hash": runtime.model_hash,
                "false_alarm_rate": None,
                "confidence": None,
                "threshold": None,
                "promise": "",
                "calibration_count": 0,
                "calibration": None,
                "reloads": sum(member.reloads for member in model.members.values()),
                "products": list(model.members),
            }
        )


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
