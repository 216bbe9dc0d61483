"""The database of a log: its address, its connections, and how long they may take."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from chiasm.errors import ConfigurationError
from chiasm.service.log.tables import is_current, prepare
from chiasm.service.refusals import Refusal

STATEMENT_ERRORS = (IntegrityError, DataError)
"""Errors of one row; all others concern the whole database."""

# Seconds. A verdict waits for the database no longer than this before it goes to the disk.
_WRITE = 4.0
READ = 10.0
READ_ALL = 300.0
"""For questions about all verdicts of a version, which no operator waits for."""
# An index over millions of rows may be built.
_PREPARE = 600.0
_SQLITE_LOCK = 10.0
_CONNECT = {
    "connect_timeout": "3",
    "application_name": "chiasm",
    # A server that vanished without a word is noticed.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}


class SlowDatabaseError(SQLAlchemyError):
    """The server did not answer in time."""


class Database:
    """SQLite in a file, or a PostgreSQL server; nothing is opened before it is used.

    Args:
        address: path of a file, ``sqlite:///PATH``, or ``postgresql://USER@HOST:PORT/DATABASE``
            as libpq reads it.

    Attributes:
        name: for the operator; without a password.
        label: for clients, who need not know where it is.
        path: of SQLite's file; None for a server.

    Raises ``ConfigurationError`` for an address of another kind.
    """

    def __init__(self, address: Path | str) -> None:
        scheme, sign, rest = str(address).partition("://")
        self.path: Path | None = None
        if isinstance(address, Path) or not sign:
            self.path = Path(address)
        elif scheme == "sqlite":
            if not rest.startswith("/") or rest == "/":
                raise ConfigurationError(
                    f"{address} names no file; write sqlite:///PATH, or the path alone."
                )
            self.path = Path(rest[1:])
        elif scheme not in ("postgresql", "postgres"):
            raise ConfigurationError(
                f"A log at {scheme}:// is not possible; give the path of an SQLite file or "
                "postgresql://USER@HOST/DATABASE."
            )
        if self.path is not None:
            self.name, self.label = str(self.path), self.path.name
            self._reading, self._writing = _sqlite_engines(self.path)
        else:
            self.name, self.label, self._reading = _server_engine(str(address))
            self._writing = self._reading

    def prepare(self) -> None:
        """Create the tables or bring them up to date.

        Raises ``ArtifactError`` for those of a later version, and ``SQLAlchemyError``, ``OSError``.
        """
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._reading.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        with self.writing() as connection:
            if is_current(connection):
                return
        with self.writing(seconds=_PREPARE) as connection:
            prepare(connection, self.name)

    def writing(self, seconds: float | None = None) -> AbstractContextManager[Connection]:
        """Open a transaction that is committed at the end, or undone if the block raises."""
        return _bounded(self._writing.begin(), _WRITE if seconds is None else seconds)

    @contextmanager
    def reading(self, seconds: float = READ) -> Iterator[Connection]:
        """Open a connection to read; ``Refusal`` 503 if the database cannot be read."""
        try:
            with _bounded(self._reading.connect(), seconds) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self.unusable(reason_of(error)) from error

    def clock(self, connection: Connection) -> float | None:
        """Return a server's time, seconds since 1970; None for a file, which has none."""
        if self.path is not None:
            return None
        return float(
            connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        )

    def unusable(self, reason: object) -> Refusal:
        """Return the refusal of a request while the database cannot be used."""
        return Refusal(
            503,
            "log_unavailable",
            f"The log of verdicts cannot be used ({reason}), and only logged verdicts are given; "
            f"the operator of this service should check {self.label}.",
            retry_after=5,
        )

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._reading.dispose()
        self._writing.dispose()


def reason_of(error: BaseException) -> str:
    """Return what the database itself said, on one line."""
    said = str(getattr(error, "orig", None) or error)
    return " ".join(said.split()) or type(error).__name__


def _sqlite_engines(path: Path) -> tuple[Engine, Engine]:
    url = URL.create("sqlite", database=str(path))
    settings: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_LOCK}}
    # The writer's connection stays open: the last one that closes would copy the whole WAL.
    engines = create_engine(url, poolclass=NullPool, **settings), create_engine(url, **settings)
    for engine in engines:

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _: object) -> None:
            # Transactions are begun here and not by the sqlite3 module, which begins them late.
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engines[1], "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engines


def _server_engine(address: str) -> tuple[str, str, Engine]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        settings: dict[str, Any] = {**_CONNECT, **conninfo_to_dict(address)}
    except psycopg.Error as error:
        raise ConfigurationError(
            f"The log's address cannot be read ({reason_of(error)}); write "
            "postgresql://USER@HOST:PORT/DATABASE."
        ) from error
    user = f"{settings['user']}@" if "user" in settings else ""
    port = f":{settings['port']}" if "port" in settings else ""
    name = f"postgresql://{user}{settings.get('host', '')}{port}/{settings.get('dbname', '')}"
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(**settings),
        pool_size=4,
        max_overflow=4,
        pool_timeout=_WRITE,
    )
    return name, f"the database {settings.get('dbname', '')}".strip(), engine


@contextmanager
def _bounded(opening: AbstractContextManager[Connection], seconds: float) -> Iterator[Connection]:
    """Bound a transaction with its commit; see ``_Deadline``."""
    deadline = _Deadline()
    with deadline, opening as connection:
        deadline.begin(connection, seconds)
        yield connection


class _Deadline:
    """Cuts the connection to a server after some seconds, so that its user gets an error.

    A server that is stopped or cut off neither answers nor closes the connection, and libpq would
    wait for ever.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._seconds = 0.0
        self._is_over = False

    def begin(self, connection: Connection, seconds: float) -> None:
        """Count from now; a file has no connection that could be cut."""
        server = getattr(connection.connection.driver_connection, "pgconn", None)
        if server is not None:
            self._socket = socket.socket(fileno=os.dup(server.socket))
            self._seconds = seconds
            self._timer = threading.Timer(seconds, self._cut)
            self._timer.daemon = True
            self._timer.start()

    def _cut(self) -> None:
        assert self._socket is not None
        self._is_over = True
        with suppress(OSError):  # it has ended at the same moment
            self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._timer is not None and self._socket is not None:
            self._timer.cancel()
            self._socket.close()
        if self._is_over and isinstance(error, SQLAlchemyError):
            raise SlowDatabaseError(f"it did not answer within {self._seconds:g} s") from error
