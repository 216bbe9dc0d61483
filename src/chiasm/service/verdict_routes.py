"""``/v1/verdicts``: the log, corrections, and pictures of verdicts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from chiasm.service.log.table import csv_lines
from chiasm.service.log.verdict_log import LONGEST_WAIT, VerdictLog
from chiasm.service.pictures import (
    ViewCache,
    ground_png,
    heat_over_png,
    heat_png,
    map_npy,
    point_cloud,
)
from chiasm.service.refusals import Refusal
from chiasm.service.schemas import CorrectionRequest, LoggedRow, LogPage, logged_row

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Of a verdict.")]
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
_BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}


def verdict_routes(log: VerdictLog, cache: ViewCache) -> APIRouter:
    """Return the routes about logged verdicts."""
    routes = APIRouter(prefix="/v1/verdicts", tags=["verdicts"])

    @routes.get("", summary="The log, newest first", response_model=LogPage)
    def verdicts(
        model: Annotated[str | None, Query(max_length=64)] = None,
        decision: Annotated[str | None, Query(max_length=120)] = None,
        station: Annotated[str | None, Query(max_length=64)] = None,
        since: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> LogPage:
        rows, total = log.find(
            model=model,
            decision=decision,
            station=station,
            since=_seconds(since),
            limit=limit,
            offset=offset,
        )
        return LogPage(verdicts=[logged_row(row) for row in rows], total=total)

    @routes.get(
        ".csv",
        summary="The log as a table, newest first",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}}},
    )
    def table(
        model: Annotated[str | None, Query(max_length=64)] = None,
        decision: Annotated[str | None, Query(max_length=120)] = None,
        station: Annotated[str | None, Query(max_length=64)] = None,
        since: datetime | None = None,
    ) -> Response:
        """Return all verdicts that match, however many: they are sent while they are read."""
        equal = {"model": model, "decision": decision, "station": station}
        wanted = {name: value for name, value in equal.items() if value is not None}
        lines = csv_lines(log.each(wanted, _seconds(since)))
        first = next(lines)  # a database that cannot be read is refused before the answer begins
        return StreamingResponse(
            chain([first], lines),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="verdicts.csv"'},
        )

    @routes.get("/{verdict}", summary="One verdict", response_model=LoggedRow)
    def one(verdict: Id) -> LoggedRow:
        return logged_row(log.get(verdict))

    @routes.post("/{verdict}/correction", summary="Correct a verdict")
    async def correct(verdict: Id, correction: CorrectionRequest) -> LoggedRow:
        """``chiasm recalibrate`` sets thresholds from corrections; the newest counts."""
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                row = await asyncio.wrap_future(
                    log.correct(verdict, correction.says, correction.by)
                )
        except TimeoutError:
            raise log.stuck() from None
        return logged_row(row)

    @routes.get(
        "/{verdict}/map.png", summary="Heat map", response_class=Response, responses=_PICTURE
    )
    def map_picture(verdict: Id, over: Literal["nothing", "rgb", "depth"] = "nothing") -> Response:
        """Transparent where nothing is suspicious, or over the part."""
        views = cache.get(verdict)
        return _png(heat_png(views) if over == "nothing" else heat_over_png(views, over))

    @routes.get(
        "/{verdict}/rgb.png", summary="The part", response_class=Response, responses=_PICTURE
    )
    def rgb_picture(verdict: Id) -> Response:
        return _png(ground_png(cache.get(verdict), "rgb"))

    @routes.get(
        "/{verdict}/depth.png", summary="Its depth", response_class=Response, responses=_PICTURE
    )
    def depth_picture(verdict: Id) -> Response:
        return _png(ground_png(cache.get(verdict), "depth"))

    @routes.get(
        "/{verdict}/pattern.png",
        summary="Pattern of a recording",
        response_class=Response,
        responses=_PICTURE,
    )
    def pattern(verdict: Id, theme: Literal["light", "dark"] = "light") -> Response:
        """Pulses by phase and charge, with the phases that speak for the class."""
        return _png(cache.pattern(verdict, theme))

    @routes.get("/{verdict}/map.npy", summary="Scores", response_class=Response, responses=_BINARY)
    def scores(verdict: Id) -> Response:
        return Response(map_npy(cache.get(verdict)), media_type="application/octet-stream")

    @routes.get("/{verdict}/points", summary="Points", response_class=Response, responses=_BINARY)
    def points(verdict: Id) -> Response:
        """Rows of eight little-endian float32: x, y, z in metres, score, red, green, blue, heat."""
        cloud = point_cloud(cache.get(verdict))
        return Response(cloud.astype("<f4").tobytes(), media_type="application/octet-stream")

    return routes


def _seconds(since: datetime | None) -> float | None:
    if since is None:
        return None
    try:
        return (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError) as cause:
        raise Refusal(422, "bad_input", f"since is {since}, which is out of range.") from cause


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
