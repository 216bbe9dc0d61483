"""The service put together of its parts."""

from __future__ import annotations

import logging
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
from chiasm.errors import ChiasmError
from chiasm.service.admission import Admission, Turns
from chiasm.service.answers import Refused
from chiasm.service.decoding import Limits
from chiasm.service.judging import Judge
from chiasm.service.middleware import RequestGuard, refused, secured
from chiasm.service.model_pool import ModelPool, Runtime
from chiasm.service.model_routes import model_routes
from chiasm.service.pictures import KeptViews
from chiasm.service.predict_routes import predict_routes
from chiasm.service.refusals import Refusal, as_refusal, shortened
from chiasm.service.settings import ServiceSettings
from chiasm.service.state_routes import Observation, add_page, state_routes
from chiasm.service.verdict_log import VerdictLog
from chiasm.service.verdict_routes import verdict_routes

logger = logging.getLogger(__name__)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": words}
    for status, words in {
        400: "Damaged request",
        401: "Missing or wrong key",
        403: "Asked by a page of another origin",
        404: "Unknown model or verdict",
        408: "The body came too slowly",
        409: "A broken model folder, or a contradiction",
        413: "Too large",
        415: "Not multipart",
        422: "Input that cannot be judged",
        429: "Busy; see Retry-After",
        503: "The log cannot be written",
        504: "No verdict in time",
    }.items()
}


def build(
    folders: dict[str, Path], settings: ServiceSettings, load: Callable[[Path], Runtime]
) -> FastAPI:
    """Load all models, open the log and put the service together.

    Raises ``ChiasmError`` where a model's folder or the log is broken.
    """
    pool = ModelPool(folders, load)
    try:
        log = VerdictLog(settings.log, keep_days=settings.keep_days)
    except ChiasmError:
        pool.close()
        raise
    # One more than are judged at a time, so that a request is decoded while others are judged.
    turns = Turns(settings.threads + 1)
    workers = ThreadPoolExecutor(turns.most, thread_name_prefix="judge")
    most_bytes = int(settings.max_mb * 2**20)
    admission = Admission(
        places=settings.queue,
        held_bytes=max(4 * most_bytes, 2**28),
        workers=turns.most,
    )
    observation = Observation(lambda: admission.depth)
    kept = KeptViews(int(settings.cache_mb * 2**20))
    pixels = int(settings.max_megapixels * 1e6)
    # Preparing needs the interpreter for most of its time: side by side, each would take as long as
    # all of them in turn, and none would get to its graph, which does without, any sooner.
    preparing = threading.Semaphore(max(1, settings.threads // 2))
    judge = Judge(log, kept, Limits(pixels=pixels, values=3 * pixels), observation, preparing)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if settings.watch:
            pool.watch(settings.watch)
        try:
            yield
        finally:
            workers.shutdown(wait=True)
            pool.close()
            log.close()

    app = FastAPI(
        title="chiasm",
        version=chiasm.__version__,
        description="Verdicts on parts and diagnoses of recordings, from two kinds of sensor.",
        lifespan=life,
        docs_url=None,  # its page loads scripts from elsewhere, and a line may have no network
        redoc_url=None,
        responses=_REFUSALS,
    )
    app.include_router(
        predict_routes(pool, judge, admission, turns, workers, seconds=settings.timeout)
    )
    app.include_router(model_routes(pool, log))
    app.include_router(verdict_routes(log, kept))
    app.include_router(state_routes(pool, log, observation))
    add_page(app)
    _answer_in_sentences(app)
    app.add_middleware(
        RequestGuard,
        keys=settings.api_keys,
        names=settings.host_names,
        most_bytes=most_bytes,
        seconds=settings.timeout,
    )
    app.add_middleware(_Observed, observation=observation)
    return app


def _answer_in_sentences(app: FastAPI) -> None:
    @app.exception_handler(ChiasmError)
    async def ours(request: Request, error: ChiasmError) -> Response:
        return refused(as_refusal(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "request"
        sentence = f"{shortened(place)}: {first['msg']}."
        return refused(Refusal(422, "bad_input", sentence))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, ChiasmError):
            return refused(as_refusal(error.__cause__))
        words = {
            404: "There is nothing at this address; /openapi.json lists what there is.",
            405: f"{shortened(request.method)} is not possible here; see /openapi.json.",
        }
        sentence = words.get(error.status_code, str(error.detail))
        answer = refused(Refusal(error.status_code, "not_possible", sentence))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return refused(Refusal(400, "client_left", "The client left before its request was whole."))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        answer = JSONResponse(
            {
                "error": {
                    "code": "internal",
                    "message": "The service failed at this request; its own log says why. Other "
                    "requests are not affected.",
                }
            },
            500,
        )
        # It is made outside of the gate, which gives them to all other answers.
        secured(answer.headers, request.url.path)
        return answer


class _Observed:
    """ASGI middleware that counts answers and their time by route."""

    def __init__(self, app: ASGIApp, *, observation: Observation) -> None:
        self._app = app
        self._observation = observation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # The route's pattern, never the path itself: labels are of a bounded number.
            route = getattr(scope.get("route"), "path", None) or "other"
            self._observation.requests.labels(_method(scope), route, str(status)).inc()
            self._observation.latency.labels(route).observe(time.monotonic() - began)


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
