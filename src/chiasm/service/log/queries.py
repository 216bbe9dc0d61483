"""What is read from the log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from chiasm.service.log.tables import corrections, verdicts
from chiasm.service.refusals import Refusal


def row_of(connection: Connection, verdict: str) -> dict[str, Any]:
    """Return a verdict with its newest correction; ``Refusal`` 404 if it is unknown."""
    row = connection.execute(_with_correction().where(verdicts.c.id == verdict)).first()
    if row is None:
        raise unknown_verdict()
    return _as_dict(row)


def page_of(
    connection: Connection, equal: dict[str, str], since: float | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """Return verdicts, newest first, and their number without the limit.

    Args:
        connection: to the database.
        equal: column to the value that it must have.
        since: earliest time, or None.
        limit, offset: of the page.
    """
    conditions = [verdicts.c[name] == value for name, value in equal.items()]
    if since is not None:
        conditions.append(verdicts.c.time >= since)
    total = connection.execute(select(func.count()).select_from(verdicts).where(*conditions))
    rows = connection.execute(
        _with_correction()
        .where(*conditions)
        .order_by(verdicts.c.time.desc(), verdicts.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [_as_dict(row) for row in rows], int(total.scalar_one())


def page_before(
    connection: Connection,
    equal: dict[str, str],
    since: float | None,
    before: tuple[float, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return verdicts, newest first, that come after the one with ``before`` as time and id.

    Each page costs the same, however many there are before it.
    """
    query = _with_correction().where(*(verdicts.c[name] == value for name, value in equal.items()))
    if since is not None:
        query = query.where(verdicts.c.time >= since)
    if before is not None:
        time, identity = before
        later = (verdicts.c.time == time) & (verdicts.c.id > identity)
        query = query.where(verdicts.c.time <= time).where((verdicts.c.time < time) | later)
    rows = connection.execute(query.order_by(verdicts.c.time.desc(), verdicts.c.id).limit(limit))
    return [_as_dict(row) for row in rows]


def newest_scores(
    connection: Connection, model: str, model_hash: str, limit: int, station: str | None
) -> list[float]:
    """Return the last scores of a version, newest first; of one station, or of all."""
    query = (
        select(verdicts.c.score)
        .where(_of_version(model, model_hash, 0.0, station), verdicts.c.score.is_not(None))
        .order_by(verdicts.c.time.desc())
        .limit(limit)
    )
    return [float(score) for score in connection.scalars(query)]


def names_of(connection: Connection, model_hash: str, since: float) -> list[str]:
    """Return the names under which a version gave verdicts, sorted."""
    query = select(verdicts.c.model).distinct()
    query = query.where(verdicts.c.model_hash == model_hash, verdicts.c.time >= since)
    return sorted(connection.scalars(query))


def stations_of(
    connection: Connection, model: str, model_hash: str, since: float
) -> dict[str, int]:
    """Return the stations at which a version gave verdicts, with their numbers, sorted."""
    query = select(verdicts.c.station, func.count()).group_by(verdicts.c.station)
    rows = connection.execute(query.where(_of_version(model, model_hash, since, None)))
    return dict(sorted((str(station), int(count)) for station, count in rows))


def counts_of(
    connection: Connection, model: str, model_hash: str, since: float, station: str | None
) -> dict[str, int]:
    """Count the inputs that a version scored under a name, by decision."""
    inputs = _one_of_each_input(model, model_hash, since, station)
    query = select(inputs.c.decision, func.count()).where(inputs.c.nth == 1)
    rows = connection.execute(query.group_by(inputs.c.decision))
    return {str(decision): int(count) for decision, count in rows}


def corrected_of(
    connection: Connection, model: str, model_hash: str, since: float, station: str | None
) -> list[dict[str, Any]]:
    """Return the corrected verdicts of a version under a name, sorted by id.

    Each input has one row, with its newest correction.
    """
    inputs = _one_of_each_input(model, model_hash, since, station)
    query = select(inputs).where(inputs.c.nth == 1, inputs.c.says.is_not(None))
    return [_as_dict(row) for row in connection.execute(query.order_by(inputs.c.id))]


def unknown_verdict() -> Refusal:
    """Return the refusal of an id that is not in the log."""
    return Refusal(
        404,
        "unknown_verdict",
        "There is no such verdict in the log; it may have been deleted (option --keep-days).",
    )


def _of_version(model: str, model_hash: str, since: float, station: str | None) -> Any:
    condition = (verdicts.c.model == model) & (verdicts.c.model_hash == model_hash)
    if since:
        condition &= verdicts.c.time >= since
    return condition if station is None else condition & (verdicts.c.station == station)


def _with_correction() -> Select[Any]:
    """Of several corrections the newest counts; all are kept."""
    newest = (
        select(func.max(corrections.c.number))
        .where(corrections.c.verdict == verdicts.c.id)
        .correlate(verdicts)
        .scalar_subquery()
    )
    return select(
        verdicts,
        corrections.c.says,
        corrections.c.by,
        corrections.c.time.label("corrected"),
    ).select_from(verdicts.outerjoin(corrections, corrections.c.number == newest))


def _one_of_each_input(model: str, model_hash: str, since: float, station: str | None) -> Any:
    """Number the rows of each input, however often it was sent.

    The first is the one with the newest correction, or else the newest that is not an error.
    """
    # Grouped: asking for the newest correction of each verdict in turn takes minutes for a million.
    newest = select(corrections.c.verdict, func.max(corrections.c.number).label("number"))
    newest_of = newest.group_by(corrections.c.verdict).subquery()
    inputs = (
        select(
            verdicts,
            corrections.c.says,
            corrections.c.by,
            corrections.c.time.label("corrected"),
            corrections.c.number.label("correction"),
        )
        .select_from(
            verdicts.outerjoin(newest_of, newest_of.c.verdict == verdicts.c.id).outerjoin(
                corrections, corrections.c.number == newest_of.c.number
            )
        )
        .where(_of_version(model, model_hash, since, station))
        .subquery()
    )
    order = (
        inputs.c.correction.desc().nulls_last(),
        inputs.c.decision == "error",
        inputs.c.time.desc(),
        inputs.c.id,
    )
    nth = func.row_number().over(partition_by=inputs.c.input_sha256, order_by=order)
    return select(inputs, nth.label("nth")).subquery()


def _as_dict(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)
