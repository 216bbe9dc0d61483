"""``/healthz``, ``/readyz``, ``/metrics`` and the page; none of them needs a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
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

from chiasm.line.delivery import Delivery
from chiasm.service.log.replicas import LISTED, differences
from chiasm.service.log.state import LogState
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.model_pool import ModelPool
from chiasm.service.schemas import (
    LogFacts,
    OutletFacts,
    ServedVersion,
    ServiceReport,
    ServiceState,
    utc_time,
)


def state_routes(
    pool: ModelPool,
    log: VerdictLog,
    service_metrics: ServiceMetrics,
    delivery: Delivery,
) -> APIRouter:
    """Return the routes about the state of the service, and of its outlets' ``delivery``."""
    routes = APIRouter(tags=["state"])

    @routes.get("/healthz", summary="Whether the process is alive")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Whether it can predict and log")
    async def ready() -> JSONResponse:
        """Models are loaded before the first request is accepted, so the log decides.

        A service whose database is away is ready as long as its disk keeps verdicts.
        """
        if not log.writable():
            return JSONResponse(
                {"status": "not ready", "why": "The log of verdicts cannot be written any more."},
                503,
            )
        state = log.state
        return JSONResponse(
            {
                "status": "ready",
                "models": [model.name for model in pool],
                "log": state.mode,
                "waiting": state.waiting,
                "notices": len(notices(log)) + len(delivery.notices),
            }
        )

    @routes.get("/v1/state", summary="This service and its neighbours", response_model=ServiceState)
    def state() -> ServiceState:
        """What an operator should mend is in ``notices``; the page shows them."""
        said = service_state(log)
        said.notices.extend(delivery.notices)
        for state in delivery.states:
            sent = None if state.last_sent is None else utc_time(state.last_sent)
            said.outlets.append(OutletFacts(**asdict(state) | {"last_sent": sent}))
        return said

    @routes.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service_metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


def notices(log: VerdictLog) -> list[str]:
    """Return the sentences about what an operator should mend."""
    return [*log.state.sentences, *differences(*log.replicas())]


def service_state(log: VerdictLog) -> ServiceState:
    """Describe a service and those that share its log."""
    state = log.state
    found, now = log.replicas()
    listed = [replica for replica in found if now - replica.seen < LISTED]
    return ServiceState(
        name=log.name,
        station=log.station,
        log=LogFacts(
            mode=state.mode,
            since=utc_time(state.since),
            waiting=state.waiting,
            writable=log.writable(),
        ),
        notices=notices(log),
        services=[
            ServiceReport(
                name=replica.name,
                station=replica.station,
                started=utc_time(replica.started),
                seen=utc_time(replica.seen),
                silent=replica.is_silent(now),
                chiasm=replica.chiasm,
                keep_days=replica.keep_days,
                waiting=replica.waiting,
                models={
                    name: ServedVersion(**asdict(model)) for name, model in replica.models.items()
                },
            )
            for replica in listed
        ],
        stations=sorted({replica.station for replica in found}),
    )


_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceMetrics:
    """Prometheus metrics of one service, with those of its process.

    Args:
        depth: returns how many requests hold a slot in the queue.
        state: returns where verdicts go.
    """

    def __init__(self, depth: Callable[[], int], state: Callable[[], LogState]) -> None:
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
        waiting = Gauge(
            "chiasm_verdicts_waiting",
            "Verdicts on the disk that are not in the database yet.",
            registry=self.registry,
        )
        waiting.set_function(lambda: state().waiting)
        away = Gauge(
            "chiasm_database_away",
            "1 while the database of verdicts cannot be used, else 0.",
            registry=self.registry,
        )
        away.set_function(lambda: float(state().mode == "spool"))

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
