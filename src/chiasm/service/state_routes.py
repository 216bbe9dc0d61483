"""``/healthz``, ``/readyz`` and ``/metrics``: what a supervisor asks; no key is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from chiasm.service.model_pool import ModelPool
from chiasm.service.verdict_log import VerdictLog


def state_routes(pool: ModelPool, log: VerdictLog, observation: Observation) -> APIRouter:
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
        return JSONResponse({"status": "ready", "models": [model.name for model in pool]})

    @routes.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(observation.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Observation:
    """Counters of one service; resident memory and open files come with the process's own.

    Args:
        depth: how many requests hold a place in the queue now.
    """

    def __init__(self, depth: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "chiasm_requests",
            "Requests answered, by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "chiasm_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.verdicts = Counter(
            "chiasm_verdicts",
            "Verdicts given, by model and decision.",
            ["model", "decision"],
            registry=self.registry,
        )
        self.judging = Histogram(
            "chiasm_judging_seconds",
            "Decoding, preparation and inference of one request, without waiting.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        queue = Gauge(
            "chiasm_queue_depth", "Requests that hold a place in the queue.", registry=self.registry
        )
        queue.set_function(depth)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


PAGE = Path(__file__).parent / "page"

_HOW = (
    "The service runs; its page was not built. Run 'npm ci && npm run build' in the folder web/ of "
    "the sources, then start the service again. What the service can do is listed in "
    "/openapi.json.\n"
)


class _Beside(Mount):
    """Whatever is not of the interface, so that its addresses keep their own refusals."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope.get("path", "").startswith("/v1/"):
            return Match.NONE, {}
        return super().matches(scope)


def add_page(app: FastAPI, folder: Path = PAGE) -> None:
    """Serve the page at ``/``; where it was not built, a sentence that says how to."""
    if (folder / "index.html").is_file():
        app.router.routes.append(
            _Beside("/", StaticFiles(directory=folder, html=True), name="page")
        )
        return

    @app.get("/", include_in_schema=False)
    async def absent() -> Response:
        return Response(_HOW, media_type="text/plain; charset=utf-8")
