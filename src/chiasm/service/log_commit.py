"""Writing into the log of verdicts: many jobs in one transaction, each failing for itself."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from chiasm.errors import ChiasmError
from chiasm.service.refusals import Refusal

logger = logging.getLogger(__name__)

Job = Callable[[sqlite3.Connection], Any]

# What SQLite says of one statement; anything else it says concerns the file.
_OF_ONE_JOB = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
)


def commit(
    connection: sqlite3.Connection, batch: list[tuple[Job, Future[Any]]], path: Path
) -> None:
    """Do a batch in one transaction; nobody is told that it is done before it is in the file.

    A job that fails is undone and told so, the others are written. Jobs that nobody waits for any
    more are left out. Never raises: the thread that writes must outlive whatever it is given.
    """
    try:
        results = _in_one_transaction(connection, batch, path)
    except Exception as error:
        logger.error("The log of verdicts cannot be written: %s", error)
        _roll_back(connection)
        results = [(done, unwritable(path, error)) for _, done in batch if _awaited(done)]
    for done, result in results:
        if isinstance(result, BaseException):
            done.set_exception(result)
        else:
            done.set_result(result)


def unwritable(path: Path, why: object) -> Refusal:
    """The refusal of whatever would need the log while it cannot be used."""
    return Refusal(
        503,
        "log_unavailable",
        f"The log of verdicts cannot be used ({why}), and no verdict is given that is not "
        f"logged; whoever runs this service should look at {path.name}.",
        retry_after=5,
    )


def storable(text: str) -> str:
    """Text as SQLite takes it: lone surrogates, which UTF-8 cannot hold, become ``?``."""
    return text.encode("utf-8", "replace").decode()


def _in_one_transaction(
    connection: sqlite3.Connection, batch: list[tuple[Job, Future[Any]]], path: Path
) -> list[tuple[Future[Any], Any]]:
    """What each job gave, or the error that it failed with; raises where none is in the file."""
    results: list[tuple[Future[Any], Any]] = []
    connection.execute("BEGIN IMMEDIATE")
    for job, done in batch:
        if not _awaited(done):
            continue
        connection.execute("SAVEPOINT job")
        try:
            results.append((done, job(connection)))
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_ONE_JOB):
                raise
            connection.execute("ROLLBACK TO job")
            if not isinstance(error, ChiasmError):
                logger.error("A row of the log cannot be written.", exc_info=error)
                error = unwritable(path, error)
            results.append((done, error))
        connection.execute("RELEASE job")
    connection.execute("COMMIT")
    return results


def _awaited(done: Future[Any]) -> bool:
    """Tell whether somebody still waits; from then on it cannot be cancelled any more."""
    return done.running() or (not done.cancelled() and done.set_running_or_notify_cancel())


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        logger.error("The log's transaction cannot be undone: %s", error)
