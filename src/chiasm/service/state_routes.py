"""``/healthz``, ``/readyz`` and ``/metrics``: what a supervisor asks; no key is needed."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from chiasm.service.fleet import Fleet
from chiasm.service.observation import Observation
from chiasm.service.verdict_log import VerdictLog


def state_routes(fleet: Fleet, log: VerdictLog, observation: Observation) -> APIRouter:
    """Routes about the service itself."""
    routes = APIRouter(tags=["state"])

    @routes.get("/healthz", summary="Is the process alive?")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Can it judge?")
    async def ready() -> JSONResponse:
        """Models are loaded before the first request is taken, so the log decides."""
        if not log.writable():
            return JSONResponse(
                {"status": "not ready", "why": "The log of verdicts is not written any more."}, 503
            )
        return JSONResponse({"status": "ready", "models": [model.name for model in fleet]})

    @routes.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(observation.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
