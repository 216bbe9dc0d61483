"""Jobs of the writing thread: many in one transaction, each with a result of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from chiasm.errors import ChiasmError
from chiasm.service.log.changes import insert_verdicts
from chiasm.service.log.database import STATEMENT_ERRORS, Database, reason_of

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """Something to write.

    Attributes:
        run: writes it, and returns the result of ``done``.
        verdict: values that can wait on the disk; None for a job that needs the database.
        done: has the result after the rows are written.
    """

    run: Callable[[Connection], Any]
    verdict: dict[str, Any] | None = None
    done: Future[Any] = field(default_factory=Future)


def commit(database: Database, jobs: Sequence[Job]) -> list[tuple[Job, Any]]:
    """Do jobs in one transaction; return each one's result or error after it is committed.

    A job that fails is undone, and the others are written. Raises if the database cannot be used;
    then nothing may be written, or all.
    """
    if len(jobs) == 1:
        # Without a savepoint, which costs two round trips to a server.
        try:
            with database.writing() as connection:
                return [(jobs[0], jobs[0].run(connection))]
        except Exception as error:
            return [(jobs[0], _error_of_one(error, database))]
    verdicts = [job for job in jobs if job.verdict is not None]
    others = [job for job in jobs if job.verdict is None]
    with database.writing() as connection:
        try:
            with connection.begin_nested():
                refusals = insert_verdicts(connection, [job.verdict or {} for job in verdicts])
            results: list[tuple[Job, Any]] = list(zip(verdicts, refusals))
        except STATEMENT_ERRORS:
            results, others = [], list(jobs)
        for job in others:
            try:
                with connection.begin_nested():
                    result = job.run(connection)
            except Exception as error:
                result = _error_of_one(error, database)
            results.append((job, result))
    return results


def _error_of_one(error: Exception, database: Database) -> ChiasmError:
    """Return the error of one job's rows; raises that of the whole database."""
    if isinstance(error, ChiasmError):
        return error
    if isinstance(error, SQLAlchemyError) and not isinstance(error, STATEMENT_ERRORS):
        raise error
    logger.error("A row of the log cannot be written.", exc_info=error)
    return database.unusable(reason_of(error))


def settle(results: Iterable[tuple[Job, Any]]) -> None:
    """Give each job its result or error."""
    for job, result in results:
        if isinstance(result, BaseException):
            job.done.set_exception(result)
        else:
            job.done.set_result(result)


def is_awaited(job: Job) -> bool:
    """Tell whether a job was not cancelled; from then on it cannot be."""
    return job.done.set_running_or_notify_cancel()
