"""``/healthz``, ``/readyz``, ``/metrics`` and the page; none of them needs a key."""

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


def state_routes(pool: ModelPool, log: VerdictLog, service_metrics: ServiceMetrics) -> APIRouter:
    """Return the routes about the state of the service."""
    routes = APIRouter(tags=["state"])

    @routes.get("/healthz", summary="Whether the process is alive")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Whether it can predict and log")
    async def ready() -> JSONResponse:
        """Models are loaded before the first request is accepted, so the log decides."""
        if not log.writable():
            return JSONResponse(
                {"status": "not ready", "why": "The log of verdicts cannot be written any more."},
                503,
            )
        return JSONResponse({"status": "ready", "models": [model.name for model in pool]})

    @routes.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service_metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceMetrics:
    """Prometheus metrics of one service, with those of its process.

    Args:
        depth: returns how many requests hold a slot in the queue.
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
            "Verdicts by model and decision.",
            ["model", "decision"],
            registry=self.registry,
        )
        self.processing = Histogram(
            "chiasm_judging_seconds",
            "Decoding, preparation and inference of one request, without waiting.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        queue = Gauge(
            "chiasm_queue_depth", "Requests that hold a slot in the queue.", registry=self.registry
        )
        queue.set_function(depth)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


PAGE = Path(__file__).parent / "page"

_NOT_BUILT = (
    "The service runs; its page was not built. Run 'npm ci && npm run build' in the folder web/ of "
    "the sources, then start the service again. /openapi.json describes the HTTP interface.\n"
)


class _PageMount(Mount):
    """The page's files; paths below ``/v1/`` are left to the routes and their error answers."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope.get("path", "").startswith("/v1/"):
            return Match.NONE, {}
        return super().matches(scope)


def add_page(app: FastAPI, folder: Path = PAGE) -> None:
    """Serve the page at ``/``, or a sentence on how to build it."""
    if (folder / "index.html").is_file():
        app.router.routes.append(
            _PageMount("/", StaticFiles(directory=folder, html=True), name="page")
        )
        return

    @app.get("/", include_in_schema=False)
    async def absent() -> Response:
        return Response(_NOT_BUILT, media_type="text/plain; charset=utf-8")
