"""The log's tables, their versions, and how older ones are brought up to date."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)

from chiasm.errors import ArtifactError

VERSION = 3
"""1: without stations and services, SQLite only. 2: without assets and their alarms."""

_METADATA = MetaData()

verdicts = Table(
    "verdicts",
    _METADATA,
    Column("id", Text, primary_key=True),
    Column("time", Double, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_hash", Text, nullable=False),
    Column("wing", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("input_sha256", Text, nullable=False),
    Column("score", Double),
    Column("p_value", Double),
    Column("threshold", Double),
    Column("decision", Text, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("error", Text, nullable=False),
    Column("station", Text, nullable=False, server_default=""),
    Column("asset", Text, nullable=False, server_default=""),
    Column("facts", Text, nullable=False, server_default=""),
    Index("verdicts_by_time", "time"),
    Index("verdicts_by_model", "model", "time"),
    sqlite_with_rowid=False,
)
_by_station = Index("verdicts_by_station", verdicts.c.station, verdicts.c.time)
_by_asset = Index("verdicts_by_asset", verdicts.c.asset, verdicts.c.time)

corrections = Table(
    "corrections",
    _METADATA,
    # SQLite numbers rows by itself only in a column of this very type.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("verdict", Text, ForeignKey("verdicts.id", ondelete="CASCADE"), nullable=False),
    Column("time", Double, nullable=False),
    Column("says", Text, nullable=False),
    Column("by", Text, nullable=False),
    Index("corrections_by_verdict", "verdict"),
)

alarms = Table(
    "alarms",
    _METADATA,
    Column("id", Text, primary_key=True),
    Column("asset", Text, nullable=False),
    Column("station", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("found", Double, nullable=False),
    Column("raised", Double, nullable=False),
    Column("began", Double, nullable=False),
    Column("acknowledged", Double),
    Column("by", Text, nullable=False, server_default=""),
    Index("alarms_by_asset", "asset", "raised"),
)

replicas = Table(
    "replicas",
    _METADATA,
    Column("name", Text, primary_key=True),
    Column("station", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("clock_offset", Double, nullable=False),
    Column("chiasm", Text, nullable=False),
    Column("keep_days", Double, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("models", Text, nullable=False),
)

chores = Table(
    "chores",
    _METADATA,
    Column("name", Text, primary_key=True),
    Column("time", Double, nullable=False),
)

# SQLite has a number of its own for this, which earlier versions of chiasm read.
_version = Table("log_version", MetaData(), Column("version", Integer, nullable=False))

# Any number that no other program uses.
_PREPARING = 0x636869


def is_current(connection: Connection) -> bool:
    """Tell whether the tables are there and of this version; changes nothing."""
    if connection.dialect.name == "sqlite":
        return _sqlite_version(connection) == VERSION
    if not inspect(connection).has_table(_version.name):
        return False
    return bool(connection.execute(select(_version.c.version)).scalar() == VERSION)


def prepare(connection: Connection, name: str) -> None:
    """Create the tables, or bring those of an earlier version up to date, in one transaction.

    Raises ``ArtifactError`` for tables of a later version.
    """
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite:
        # Services that start at the same time must not create the same table.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_PREPARING})"))
    version = _sqlite_version(connection) if sqlite else _server_version(connection)
    if version > VERSION:
        raise ArtifactError(
            f"{name} is a log of version {version}, and this chiasm reads version {VERSION}; use a "
            "newer chiasm, or another log."
        )
    if version == VERSION:
        return
    if version == 0:
        _METADATA.create_all(connection)
    for step in _STEPS[version - 1 :] if version else ():
        step(connection)
    if sqlite:
        connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")
    else:
        changed = connection.execute(update(_version).values(version=VERSION))
        if not changed.rowcount:
            connection.execute(insert(_version).values(version=VERSION))


def _sqlite_version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _server_version(connection: Connection) -> int:
    if not inspect(connection).has_table(_version.name):
        _version.create(connection)
    return int(connection.execute(select(_version.c.version)).scalar() or 0)


def _add_stations(connection: Connection) -> None:
    _add_column(connection, "station")
    _by_station.create(connection)
    for table in (corrections, replicas, chores):
        table.create(connection, checkfirst=True)


def _add_assets(connection: Connection) -> None:
    _add_column(connection, "asset")
    _add_column(connection, "facts")
    _by_asset.create(connection)
    alarms.create(connection, checkfirst=True)


def _add_column(connection: Connection, name: str) -> None:
    connection.exec_driver_sql(f"ALTER TABLE verdicts ADD COLUMN {name} TEXT NOT NULL DEFAULT ''")


# The n-th brings version n to version n + 1.
_STEPS: tuple[Callable[[Connection], None], ...] = (_add_stations, _add_assets)
