"""``POST /v1/models/{name}/predict``: a part or a recording in, a verdict out."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files as resources
from typing import Any

from fastapi import APIRouter, Request

from chiasm.service.admission import Admission
from chiasm.service.decoding import PART_FIELDS, RECORDING_FIELDS
from chiasm.service.model_pool import ModelPool
from chiasm.service.multipart import read_form
from chiasm.service.prediction import RequestPredictor
from chiasm.service.refusals import Refusal, shortened
from chiasm.service.schemas import Prediction

_FILE = {"type": "string", "format": "binary"}
_DESCRIPTIONS = {
    "rgb": "PNG, JPEG, BMP, TIFF of 8 or 16 bits a channel, or .npy (height, width, 3).",
    "xyz": "TIFF of three floats a pixel, or .npy (height, width, 3); metres, 0 where missing.",
    "depth": "Instead of xyz: 16-bit PNG, TIFF or .npy (height, width); needs the camera.",
    "fx": "Focal length, pixels.",
    "fy": "Focal length, pixels.",
    "cx": "Principal point, pixels.",
    "cy": "Principal point, pixels.",
    "depth_unit": "Metres in one count of depth; 0.001 if not given.",
    "image": "The phase-resolved pattern, as rgb.",
    "series": "CSV of numbers without header, or .npy (channels, values); recorder counts.",
    "frequency": "Of the mains, Hz; 60 if not given.",
    "samples_per_cycle": "Values of the series per mains cycle; 128 if not given.",
    "rows_in_time": "Whether a table's rows are points in time (true) or channels (false); if not "
    "given, true for models of one channel and false for others.",
    "charge": "Calibration factor: pC of one unit of the series; charges are uncalibrated without.",
    "voltage_kv": "Effective value of the voltage at the test object, kV.",
    "source": "Name of the part in the log; the file's name if not given.",
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{32}$"},
    "description": "Id for the verdict. A request that is sent again with the same key and the "
    "same files has one verdict in the log, at whichever service it arrives.",
}
_ID = re.compile("[0-9a-f]{32}")
_FILES = {"rgb", "xyz", "depth", "image", "series"}


def predict_routes(
    pool: ModelPool,
    predictor: RequestPredictor,
    admission: Admission,
    workers: ThreadPoolExecutor,
    *,
    seconds: float,
) -> APIRouter:
    """Return the route that predicts; a client waits ``seconds`` at most for a verdict."""
    routes = APIRouter(tags=["verdicts"])

    @routes.post(
        "/v1/models/{name}/predict",
        summary="Judge one part, or diagnose one recording",
        response_model=Prediction,
        openapi_extra={"requestBody": request_body(), "parameters": [_KEY]},
        responses={200: {"content": {"application/json": {"examples": examples()}}}},
    )
    async def predict(name: str, request: Request) -> Prediction:
        model = pool[name]
        verdict = _verdict_id(request.headers.get("idempotency-key"))
        slot = admission.enter()
        clock = _Clock()
        try:
            files, fields = await read_form(request, slot)
            job = partial(predictor.predict, model, files, fields, time.monotonic(), verdict)
            work = workers.submit(clock.measured, job)
        except BaseException:
            slot.leave()
            raise
        loop = asyncio.get_running_loop()

        def leave(done: object) -> None:
            # The slot is free when the work is over, not when the client stops waiting.
            loop.call_soon_threadsafe(lambda: slot.leave(clock.seconds))

        work.add_done_callback(leave)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asyncio.wrap_future(work))
        except TimeoutError:
            clock.counts = False
            work.cancel()
            raise Refusal(
                504,
                "too_late",
                f"No verdict was ready after {seconds:g} s; the service is overloaded or the part "
                "too large. Send it again later.",
                retry_after=max(1, round(seconds)),
            ) from None

    return routes


def _verdict_id(key: str | None) -> str:
    """Return the id of a request's verdict; "" if the client left it to the service."""
    if key is None:
        return ""
    identity = key.strip().strip('"').replace("-", "").lower()
    if not _ID.fullmatch(identity):
        raise Refusal(
            422,
            "bad_key",
            f"Idempotency-Key is {shortened(key)!r}; it must be 32 hexadecimal digits or a UUID.",
        )
    return identity


class _Clock:
    """Working time of a request, without its time in the queue."""

    def __init__(self) -> None:
        self.counts = True
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """None for work that never started or that timed out: it tells nothing about others."""
        return self._seconds if self.counts else None

    def measured(self, work: Callable[[], Prediction]) -> Prediction:
        """Do the work and measure its time."""
        start = time.monotonic()
        try:
            return work()
        finally:
            self._seconds = time.monotonic() - start


def request_body() -> dict[str, Any]:
    """Return the multipart form for OpenAPI."""
    names = dict.fromkeys((*PART_FIELDS, *RECORDING_FIELDS))
    properties = {
        name: {
            **(_FILE if name in _FILES else {"type": "string"}),
            "description": _DESCRIPTIONS[name],
        }
        for name in names
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def examples() -> dict[str, Any]:
    """Return answers of real models; a test keeps them current."""
    text = resources("chiasm.service").joinpath("examples.json").read_text(encoding="utf-8")
    return {name: {"value": value} for name, value in json.loads(text).items()}
