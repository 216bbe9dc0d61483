"""The application: models, log, queue, routes and middleware."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import chiasm
from chiasm.diagnosis.monitoring.alarms import AlarmRule
from chiasm.diagnosis.quantities.severity import read_levels
from chiasm.errors import ChiasmError
from chiasm.line.configuration import read_outlets
from chiasm.line.delivery import Delivery
from chiasm.service.admission import Admission
from chiasm.service.assets.alarm_watch import AlarmWatch
from chiasm.service.assets.routes import asset_routes
from chiasm.service.declared_size import Limits
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.middleware import RequestGuard, add_secure_headers, error_response
from chiasm.service.model_pool import ModelPool, Runtime
from chiasm.service.model_routes import model_routes
from chiasm.service.pictures import ViewCache
from chiasm.service.predict_routes import predict_routes
from chiasm.service.prediction import RequestPredictor
from chiasm.service.refusals import Refusal, as_refusal, shortened
from chiasm.service.schemas import ErrorAnswer
from chiasm.service.settings import ServiceSettings, spool_folder
from chiasm.service.state_routes import ServiceMetrics, add_page, state_routes
from chiasm.service.verdict_routes import verdict_routes

logger = logging.getLogger(__name__)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "Damaged request",
        401: "Missing or wrong key",
        403: "Request of a page of another origin, or to an unknown host name",
        404: "Unknown model or verdict",
        408: "The body arrived too slowly",
        409: "A broken model folder, a contradictory correction, or a key of another request",
        413: "Too large",
        415: "Not multipart",
        422: "Input that the model cannot take",
        429: "Busy; see Retry-After",
        503: "The log cannot be written",
        504: "No verdict in time",
    }.items()
}


def build(
    folders: dict[str, Path], settings: ServiceSettings, load: Callable[[Path], Runtime]
) -> FastAPI:
    """Load all models, open the log and build the application.

    Raises ``ChiasmError`` if a model's folder or the log is broken.
    """
    outlets = {} if settings.outlets is None else read_outlets(settings.outlets)
    name = settings.replica or f"{socket.gethostname()}:{os.getpid()}"
    pool = ModelPool(folders, load)
    try:
        log = VerdictLog(
            settings.log,
            keep_days=settings.keep_days,
            spool=spool_folder(settings),
            station=settings.station,
            name=name,
            models=pool.served,
        )
    except ChiasmError:
        pool.close()
        raise
    try:
        place = spool_folder(settings) / "outlets"
        delivery = Delivery(outlets, place, owner=name, option="--spool")
    except ChiasmError:
        log.close()
        pool.close()
        raise
    # Two more than the graph's threads, so that a prepared input is ready when one is free.
    at_a_time = settings.threads + 2
    workers = ThreadPoolExecutor(at_a_time, thread_name_prefix="predict")
    most_bytes = int(settings.max_mb * 2**20)
    admission = Admission(
        slots=settings.queue,
        held_bytes=max(4 * most_bytes, 2**28),
        workers=at_a_time,
    )
    metrics = ServiceMetrics(lambda: admission.depth, lambda: log.state)
    views = ViewCache(int(settings.cache_mb * 2**20))
    pixels = int(settings.max_megapixels * 1e6)
    # Preparation holds the interpreter for most of its time: more of it at a time would delay all
    # requests and bring none of them to the graph, which runs without the interpreter, any sooner.
    preparing = threading.Semaphore(max(1, settings.threads // 2))
    limits = Limits(pixels=pixels, values=3 * pixels)
    levels = None if settings.severity is None else read_levels(settings.severity)
    predictor = RequestPredictor(log, views, limits, metrics, preparing, delivery.put, levels)

    rule = AlarmRule()
    watch = AlarmWatch(log, delivery.put, rule)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.watch:
            pool.watch(settings.watch)
        try:
            yield
        finally:
            workers.shutdown(wait=True)
            watch.close()
            pool.close()
            delivery.close()
            log.close()

    app = FastAPI(
        title="chiasm",
        version=chiasm.__version__,
        description="Verdicts on parts and diagnoses of recordings, from two kinds of sensor.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from the internet, which a line may not have
        redoc_url=None,
        responses=_REFUSALS,
    )
    app.include_router(
        predict_routes(pool, predictor, admission, workers, seconds=settings.timeout)
    )
    app.include_router(model_routes(pool, log, admin_keys=settings.admin_keys))
    app.include_router(verdict_routes(log, views))
    app.include_router(asset_routes(log, rule))
    app.include_router(state_routes(pool, log, metrics, delivery))
    add_page(app)
    _handle_errors(app)
    app.add_middleware(
        RequestGuard,
        keys=settings.api_keys,
        admin_keys=settings.admin_keys,
        names=settings.host_names,
        most_bytes=most_bytes,
        seconds=settings.timeout,
    )
    app.add_middleware(_MetricsMiddleware, metrics=metrics)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(ChiasmError)
    async def chiasm_error(request: Request, error: ChiasmError) -> Response:
        return error_response(as_refusal(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or "request"
        sentence = f"{shortened(field)}: {first['msg']}."
        return error_response(Refusal(422, "bad_input", sentence))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, ChiasmError):
            return error_response(as_refusal(error.__cause__))
        sentences = {
            404: "There is nothing at this address; /openapi.json lists the addresses.",
            405: f"{shortened(request.method)} is not possible here; see /openapi.json.",
        }
        sentence = sentences.get(error.status_code, str(error.detail))
        answer = error_response(Refusal(error.status_code, "not_possible", sentence))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return error_response(
            Refusal(400, "client_left", "The client left before its request was complete.")
        )

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        answer = JSONResponse(
            {
                "error": {
                    "code": "internal",
                    "message": "The service failed at this request; its output says why. Other "
                    "requests are not affected.",
                }
            },
            500,
        )
        # This handler runs outside of the middleware that adds them to all other answers.
        add_secure_headers(answer.headers, request.url.path)
        return answer


class _MetricsMiddleware:
    """ASGI middleware that counts answers and their time by route."""

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # The route's pattern and not the path: the number of labels must be bounded.
            route = getattr(scope.get("route"), "path", None) or "other"
            self._metrics.requests.labels(_method(scope), route, str(status)).inc()
            self._metrics.latency.labels(route).observe(time.monotonic() - start)


def _method(scope: Scope) -> str:
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in methods else "other"
