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
from chiasm.service.decoding import FILE_FIELDS, PART_FIELDS, RECORDING_FIELDS
from chiasm.service.model_pool import ModelPool
from chiasm.service.multipart import read_form
from chiasm.service.prediction import RequestPredictor
from chiasm.service.refusals import Refusal, shortened
from chiasm.service.schemas import Prediction

_FILE = {"type": "string", "format": "binary"}
_DESCRIPTIONS = {
    "rgb": "PNG, JPEG, BMP, WebP, TIFF of 8 or 16 bits a channel, or .npy (height, width, 3).",
    "xyz": "What a 3D sensor wrote: point map (TIFF, .npy, .npz, OpenEXR), PLY or PCD, table or "
    "map of heights (with pitch), depth image (with the camera). 0, NaN, markers where missing.",
    "depth": "The same; whole counts of depth without a unit are taken for millimetres.",
    "intrinsics": "Camera of depth, or of clouds without a grid: JSON, YAML, .mat, .npy or text.",
    "colour_intrinsics": "Of a colour camera beside the depth camera, with extrinsic.",
    "extrinsic": "Where the colour camera stands, from the depth camera to it, metres: JSON, YAML.",
    "fx": "In place of intrinsics: focal length, pixels.",
    "fy": "Focal length, pixels.",
    "cx": "Principal point, pixels.",
    "cy": "Principal point, pixels.",
    "depth_unit": "As unit.",
    "unit": "Metres of one count or unit of the 3D file; metres for floats if not given.",
    "pitch": "Of a map of heights: metres between columns, and rows.",
    "pitch_y": "Metres between rows, where it differs.",
    "offset": "Metres added to heights.",
    "direction": "up: heights grow towards the sensor; down: they are distances from it.",
    "missing": "Values that mark what was not measured, divided by commas.",
    "intensity": "false leaves out intensities in 3D files, which else are the grey image.",
    "bits": "Bits that the camera used of the 16 of its images, 8 to 16.",
    "image": "The phase-resolved pattern, as rgb.",
    "series": "What a recorder wrote: table, list of pulses, .npy, .npz, .mat, bare numbers, an "
    "instrument's XML, a monitor's NAME-A.txt.",
    "series_phase": "A monitor's NAME-P.txt, beside its amplitudes in series.",
    "series_time": "A monitor's NAME-Ti.txt.",
    "series_settings": "A monitor's NAME-SG.txt, which has the frequency.",
    "frequency": "Of the mains, Hz; 60 if not given.",
    "samples_per_cycle": "Values of the series per mains cycle; 128 if not given.",
    "sample_rate": "Values a second, in place of samples_per_cycle.",
    "layout": "What a table is: rows (that follow each other in time), channels, pulses, pattern "
    "or waveform.",
    "columns": "Of a table without names, in order: time, phase, amplitude, count, or -.",
    "raw_type": "Of bare numbers: int16, float32 ...",
    "header_bytes": "Bytes before bare numbers.",
    "raw_channels": "Channels whose bare numbers stand by turns.",
    "variable": "Of a .mat or .npz file with several arrays.",
    "rows_in_time": "Earlier name: true is layout=rows, false layout=channels.",
    "charge": "Calibration factor: pC of one unit of the series; charges are uncalibrated without.",
    "voltage_kv": "Effective value of the voltage at the test object, kV.",
    "dead_time": "Seconds after the beginning of a pulse in which no other begins.",
    "time_unit": "Of a list's times where no header says it: s, ms, us or ns.",
    "phase_unit": "Of a list's phases where no header says it: degrees, radians, percent, cycles "
    "or the number of parts of a cycle, such as 256.",
    "amplitude_grows": "Of a matrix of counts: up (the first row is the largest), down, or right "
    "or left where rows are phases.",
    "product": "Of a model of several products: of which the part is; told by its looks where they "
    "are clear if not given, and else refused.",
    "source": "Name of the part in the log; the file's name if not given.",
}
_DESCRIPTIONS |= {
    "asset": "Name of the apparatus that was recorded: its verdicts make a trend (/v1/assets).",
    "recorded": "When it was recorded, ISO 8601 (UTC without a zone); now if not given.",
    "recorder": "Instrument and settings, such as gain; charges are compared where it is equal.",
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
        model = pool.judge(name)
        verdict = _verdict_id(request.headers.get("idempotency-key"))
        slot = admission.enter()
        clock = _Clock()
        try:
            files, fields = await read_form(request, slot)
            judge = model.of_product(fields.get("product", "").strip())
            job = partial(predictor.predict, judge, files, fields, time.monotonic(), verdict)
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
            **(_FILE if name in FILE_FIELDS else {"type": "string"}),
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
