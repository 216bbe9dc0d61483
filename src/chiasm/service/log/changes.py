"""What is written to the log: verdicts, corrections, deletions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from chiasm.service.log.queries import row_of
from chiasm.service.log.record import storable
from chiasm.service.log.tables import chores, corrections, replicas, verdicts
from chiasm.service.refusals import Refusal

_DAY = 86400.0
_HOUR = 3600.0


def upsert(dialect: str, table: Any) -> Any:
    """Return the dialect's INSERT that has ``on_conflict_do_update``."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect](table)


def insert_verdict(connection: Connection, values: dict[str, Any]) -> None:
    """Write a verdict; one of the same id and input is replaced by the later one.

    A request that is sent again has the id of the first one, whose verdict may have been written
    before its service was killed; the answer that counts is the later one.

    Raises ``Refusal`` 409 if the id belongs to another input, or the verdict was corrected.
    """
    written = _returning_insertion(connection.dialect.name)
    if not connection.execute(written, values).first():
        refusal = _refusal(_stored(connection, [values]).get(values["id"]), values)
        if refusal is not None:
            raise refusal


def insert_verdicts(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Refusal | None]:
    """Write many verdicts as ``insert_verdict`` does, in few round trips; return the refusals."""
    if not rows:
        return []
    connection.execute(_insertion(connection.dialect.name), list(rows))
    stored = _stored(connection, rows)
    return [_refusal(stored.get(row["id"]), row) for row in rows]


def deliver_verdicts(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write verdicts that may be in the log already, or a later one of the same request."""
    connection.execute(_insertion(connection.dialect.name), list(rows))
    stored = _stored(connection, rows)
    # Nobody could see that the id was in use while the database was away, and both were answered.
    others = [row for row in rows if not _is_same_input(stored.get(row["id"], row), row)]
    if others:
        renamed = [{**row, "id": _other_id(row)} for row in others]
        connection.execute(_insertion(connection.dialect.name), renamed)


def insert_correction(connection: Connection, verdict: str, says: str, by: str) -> dict[str, Any]:
    """Write an operator's correction; return the row.

    Raises ``Refusal`` for an unknown verdict, and for a correction that contradicts it: only a
    defective verdict can be a false alarm, and only a good one a miss.
    """
    row = row_of(connection, verdict)
    contradicted = {"false alarm": "good", "missed": "defective"}.get(says)
    if row["decision"] == "error" or (
        row["wing"] == "detector" and contradicted == row["decision"]
    ):
        raise Refusal(
            409,
            "contradiction",
            f"The verdict was {row['decision']!r}, which cannot be {says!r}; a false alarm "
            "is a good part called defective, a miss a defective one called good.",
        )
    said = {"verdict": verdict, "time": time.time(), "says": storable(says), "by": storable(by)}
    connection.execute(insert(corrections), said)
    return row_of(connection, verdict)


def claim_hour(connection: Connection, chore: str, now: float) -> bool:
    """Tell whether nobody did a chore in the last hour; then it counts as done by the caller.

    Services that share a log do such a chore once.
    """
    nothing = (
        upsert(connection.dialect.name, chores)
        .values(name=chore, time=0.0)
        .on_conflict_do_nothing()
    )
    connection.execute(nothing)
    due = (chores.c.name == chore) & (chores.c.time <= now - _HOUR)
    return bool(connection.execute(update(chores).where(due).values(time=now)).rowcount)


def delete_old(connection: Connection, keep_days: float, now: float, most: int) -> int:
    """Delete at most so many verdicts that are too old, with their corrections; their number."""
    old = select(verdicts.c.id).where(verdicts.c.time < now - keep_days * _DAY)
    chosen = old.order_by(verdicts.c.time).limit(most)
    return int(connection.execute(delete(verdicts).where(verdicts.c.id.in_(chosen))).rowcount)


def forget_silent(connection: Connection, keep_days: float, now: float) -> None:
    """Delete services that have not reported for as long as verdicts are kept."""
    connection.execute(delete(replicas).where(replicas.c.seen < now - keep_days * _DAY))


@cache  # building it takes longer than running it
def _insertion(dialect: str) -> Any:
    statement = upsert(dialect, verdicts)
    new = statement.excluded
    same = (verdicts.c.input_sha256 == new.input_sha256) & (verdicts.c.model == new.model)
    corrected = exists().where(corrections.c.verdict == verdicts.c.id)
    return statement.on_conflict_do_update(
        index_elements=[verdicts.c.id],
        set_={column.name: new[column.name] for column in verdicts.c if column.name != "id"},
        where=same & (verdicts.c.time < new.time) & ~corrected,
    )


@cache
def _returning_insertion(dialect: str) -> Any:
    return _insertion(dialect).returning(verdicts.c.id)


def _stored(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is stored under the ids of rows, by id."""
    columns = verdicts.c.id, verdicts.c.model, verdicts.c.input_sha256, verdicts.c.time
    ids = verdicts.c.id.in_(sorted({row["id"] for row in rows}))
    return {row.id: row._mapping for row in connection.execute(select(*columns).where(ids))}


def _refusal(stored: Any, values: dict[str, Any]) -> Refusal | None:
    """Return why a row was not written; None if it was, or a later one of its request is there."""
    if stored is None:
        return None
    if not _is_same_input(stored, values):
        return _taken("another input")
    if stored["time"] < values["time"]:
        return _taken("a verdict that an operator has corrected")
    return None


def _is_same_input(one: Any, other: Any) -> bool:
    return bool(one["input_sha256"] == other["input_sha256"] and one["model"] == other["model"])


def _other_id(row: dict[str, Any]) -> str:
    """Return an id that is the same whenever this row is delivered again."""
    text = f"{row['id']} {row['model']} {row['input_sha256']}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _taken(owner: str) -> Refusal:
    return Refusal(
        409,
        "key_taken",
        f"The Idempotency-Key belongs to {owner}; send this request with a key of its own.",
    )
