"""What the log holds of assets: their verdicts and their alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from chiasm.service.log.changes import upsert
from chiasm.service.log.record import storable
from chiasm.service.log.tables import alarms, verdicts
from chiasm.service.refusals import Refusal

MOST_OF_ASSET = 2000
"""Newest verdicts of an asset that its trend looks at."""


def assets_of(connection: Connection, station: str | None) -> list[dict[str, Any]]:
    """Return each asset with the number of its verdicts and its newest one, sorted by name.

    Args:
        connection: to the database.
        station: of the newest verdict; None takes all.
    """
    number = func.row_number().over(
        partition_by=verdicts.c.asset, order_by=(verdicts.c.time.desc(), verdicts.c.id)
    )
    count = func.count().over(partition_by=verdicts.c.asset)
    numbered = (
        select(verdicts, number.label("nth"), count.label("recordings"))
        .where(verdicts.c.asset > "")
        .subquery()
    )
    query = select(numbered).where(numbered.c.nth == 1).order_by(numbered.c.asset)
    if station is not None:
        query = query.where(numbered.c.station == station)
    return [dict(row._mapping) for row in connection.execute(query)]


def verdicts_of(connection: Connection, asset: str) -> list[dict[str, Any]]:
    """Return the newest verdicts of an asset, the earliest first.

    Raises ``Refusal`` 404 if there is none.
    """
    query = select(verdicts).where(verdicts.c.asset == asset)
    query = query.order_by(verdicts.c.time.desc(), verdicts.c.id).limit(MOST_OF_ASSET)
    rows = [dict(row._mapping) for row in connection.execute(query)]
    if not rows:
        raise Refusal(
            404,
            "unknown_asset",
            "The log has no verdict of this asset; it may have been deleted (option --keep-days).",
        )
    return rows[::-1]


def alarms_of(connection: Connection, assets: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the alarms of assets, the newest first."""
    found: dict[str, list[dict[str, Any]]] = {asset: [] for asset in assets}
    query = select(alarms).order_by(alarms.c.raised.desc(), alarms.c.id)
    for row in connection.execute(query):
        if row.asset in found:
            found[row.asset].append(dict(row._mapping))
    return found


def insert_alarm(connection: Connection, values: Mapping[str, Any]) -> None:
    """Write an alarm; one that is there stays as it is."""
    text = {name: storable(v) if isinstance(v, str) else v for name, v in values.items()}
    statement = upsert(connection.dialect.name, alarms).values(**text)
    connection.execute(statement.on_conflict_do_nothing())


def acknowledge(connection: Connection, alarm: str, by: str, now: float) -> dict[str, Any]:
    """Note that somebody has seen an alarm; the first one stays.

    Raises ``Refusal`` 404 if there is no such alarm.
    """
    unseen = (alarms.c.id == alarm) & alarms.c.acknowledged.is_(None)
    connection.execute(update(alarms).where(unseen).values(acknowledged=now, by=storable(by)))
    row = connection.execute(select(alarms).where(alarms.c.id == alarm)).first()
    if row is None:
        raise Refusal(404, "unknown_alarm", "There is no such alarm in the log.")
    return dict(row._mapping)
