"""``/v1/assets`` and ``/v1/alarms``: assets over time, and who has seen their alarms."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from chiasm.diagnosis.monitoring.alarms import AlarmRule
from chiasm.diagnosis.monitoring.asset import QUANTITIES
from chiasm.service.assets.facts import observation_from
from chiasm.service.assets.history import history_of
from chiasm.service.log.asset_rows import acknowledge, alarms_of, assets_of, verdicts_of
from chiasm.service.log.verdict_log import LONGEST_WAIT, VerdictLog
from chiasm.service.schemas import Schema, utc_time

Name = Annotated[str, Query(min_length=1, max_length=120, description="Of an asset.")]
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Of an alarm.")]


class AssetAlarm(Schema):
    """A change of an asset for which somebody should look at it."""

    id: str
    asset: str
    station: str
    model: str
    subject: str = Field(description="charge, pulse rate, class, unknown or severity.")
    sentence: str
    since: datetime = Field(description="First recording of the change.")
    raised: datetime = Field(description="Recording at which it was found.")
    found: datetime = Field(description="When the service raised it.")
    acknowledged: datetime | None
    by: str


class AssetState(Schema):
    """An asset with its newest recording and its alarms, the newest first."""

    asset: str
    station: str
    model: str
    recordings: int
    newest: datetime
    kind: str
    confidence: float | None
    severity: str | None
    alarms: list[AssetAlarm]


class AssetList(Schema):
    """Assets; those with an alarm that nobody has seen come first."""

    assets: list[AssetState]
    promise: str = Field(description="What is promised of false alarms.")


class AssetObservation(Schema):
    """One recording of an asset."""

    source: str
    time: datetime
    kind: str
    confidence: float | None
    severity: str | None
    quantities: dict[str, float | None] = Field(description=f"Of {', '.join(QUANTITIES)}.")
    unit: str
    recorder: str


class SlopeInterval(Schema):
    """A robust slope a day, with its interval."""

    per_day: float | None
    low: float | None
    high: float | None
    confidence: float


class AssetQuantity(Schema):
    """A quantity by one recorder; its evidence alarms at ``evidence_of_alarm``."""

    name: str
    recorder: str
    recordings: int
    slope: SlopeInterval | None
    evidence: float | None
    evidence_of_alarm: float | None
    block: int = Field(description="Neighbouring recordings that are judged as one.")
    correlation: float | None = Field(description="Of neighbouring recordings; 0 is independent.")


class AssetHistory(Schema):
    """An asset over time, the earliest recording first."""

    asset: str
    observations: list[AssetObservation]
    quantities: list[AssetQuantity]
    alarms: list[AssetAlarm]
    notes: list[str]


class Acknowledgement(BaseModel):
    """Who has seen an alarm."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    by: str = Field("", max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")


def asset_routes(log: VerdictLog, rule: AlarmRule) -> APIRouter:
    """Return the routes about assets."""
    routes = APIRouter(prefix="/v1", tags=["assets"])

    @routes.get("/assets", summary="Assets with their newest recording and alarms")
    def assets(
        station: Annotated[str | None, Query(max_length=64)] = None,
    ) -> AssetList:
        """An asset is what requests call so in their field ``asset``."""
        with log.reading() as connection:
            rows = assets_of(connection, station)
            alarms = alarms_of(connection, [row["asset"] for row in rows])
        states = [_state(row, alarms[row["asset"]]) for row in rows]
        states.sort(key=lambda one: (all(a.acknowledged for a in one.alarms), one.asset))
        return AssetList(assets=states, promise=rule.promise)

    @routes.get("/assets/trend", summary="One asset over time")
    def trend(asset: Name) -> AssetHistory:
        """The newest recordings by the model that judged last."""
        with log.reading() as connection:
            rows = verdicts_of(connection, asset)
            alarms = alarms_of(connection, [asset])[asset]
        found = history_of(asset, rows, rule).to_dict()
        return AssetHistory(
            asset=asset,
            observations=found["observations"],
            quantities=found["quantities"],
            alarms=[_alarm(row) for row in alarms],
            notes=found["notes"],
        )

    @routes.post("/alarms/{alarm}/acknowledgement", summary="Say that an alarm was seen")
    async def seen(alarm: Id, acknowledgement: Acknowledgement) -> AssetAlarm:
        """The first acknowledgement stays; the alarm is kept."""
        by = acknowledgement.by
        job = log.submit(lambda connection: acknowledge(connection, alarm, by, time.time()))
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                row = await asyncio.wrap_future(job)
        except TimeoutError:
            raise log.stuck() from None
        return _alarm(row)

    return routes


def _state(row: dict[str, Any], alarms: list[dict[str, Any]]) -> AssetState:
    one = observation_from(row)
    return AssetState(
        asset=row["asset"],
        station=row["station"],
        model=row["model"],
        recordings=row["recordings"],
        newest=utc_time(one.time or row["time"]),
        kind=row["decision"],
        confidence=row["score"],
        severity=one.severity or None,
        alarms=[_alarm(alarm) for alarm in alarms],
    )


def _alarm(row: dict[str, Any]) -> AssetAlarm:
    seen = row["acknowledged"]
    return AssetAlarm(
        id=row["id"],
        asset=row["asset"],
        station=row["station"],
        model=row["model"],
        subject=row["subject"],
        sentence=row["sentence"],
        since=utc_time(row["began"]),
        raised=utc_time(row["raised"]),
        found=utc_time(row["found"]),
        acknowledged=None if seen is None else utc_time(seen),
        by=row["by"],
    )
