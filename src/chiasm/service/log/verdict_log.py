"""The open log: one thread writes, one looks after the database, any number read."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

import chiasm
from chiasm.errors import ArtifactError, ChiasmError
from chiasm.files.spool import Rows, Spool, line_of
from chiasm.service.log import changes, queries
from chiasm.service.log.database import READ, READ_ALL, STATEMENT_ERRORS, Database, reason_of
from chiasm.service.log.record import LoggedVerdict
from chiasm.service.log.replicas import Replica, ServedModel, read_replicas, report, retract
from chiasm.service.log.state import LogState, Mode
from chiasm.service.log.writer import Job, commit, is_awaited, settle
from chiasm.service.refusals import Refusal

logger = logging.getLogger(__name__)

LONGEST_WAIT = 15.0
"""Seconds after which a job counts as stuck; the database itself gets less."""

LOOKS_EVERY = 2.0
"""Seconds after which an outage, its end, or news of other services are noticed."""

_MOST_AT_ONCE = 256
_DELETED_AT_ONCE = 1000
_LISTED_AT_ONCE = 1000
_CHORES = 60.0  # seconds
_LONGEST_LISTED = 90.0  # days, where verdicts are kept for ever


class VerdictLog:
    """An open log; an SQLite file, or the tables on a server, are created if they do not exist.

    Args:
        address: path or URL of the database; see ``Database``. Two files beside an SQLite file,
            ``-wal`` and ``-shm``, belong to it.
        keep_days: age in days at which a verdict is deleted; 0 keeps all.
        spool: folder that keeps verdicts while the database is away; None keeps none, and then
            verdicts are refused.
        station: name of this service for the reports of all.
        name: of this service among those that share the log; "" reports nothing.
        models: returns what is served.
        every: seconds between looks at the database; None is ``LOOKS_EVERY``.

    Raises ``ArtifactError`` if the database is not a log, or one of a later version, and without
    ``spool`` also if a server does not answer; ``ConfigurationError`` for an impossible address or
    spool.
    """

    def __init__(
        self,
        address: Path | str,
        *,
        keep_days: float = 0.0,
        spool: Path | None = None,
        station: str = "",
        name: str = "",
        models: Callable[[], Mapping[str, ServedModel]] = dict,
        every: float | None = None,
    ) -> None:
        self._database = Database(address)
        self.path = self._database.path
        self.station = station
        self.name = name
        self._keep_days = keep_days
        self._models = models
        self._every = LOOKS_EVERY if every is None else every
        self._started = time.time()
        self._reports = 0
        self._twin = False
        self._replicas: list[Replica] = []
        self._replicas_at = (0.0, 0.0)  # by the database's clock, and by the monotonic one
        self._next_chores = 0.0
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._closed = threading.Event()
        # Held while a verdict goes to the disk, so that none is left there unnoticed.
        self._switch = threading.Lock()
        self._mode: Mode = "database"
        self._since = self._started
        self._why = ""
        self._trouble = ""
        try:
            self._prepare(lenient=spool is not None)
            self._spool = None if spool is None else Spool(spool, owner=name or station)
        except ChiasmError:
            self._database.close()
            raise
        self._writer = threading.Thread(target=self._write, name="verdict-log", daemon=True)
        self._writer.start()
        self._keeper: threading.Thread | None = None
        if self._spool is not None or keep_days:
            self._keeper = threading.Thread(target=self._keep, name="log-keeper", daemon=True)
            self._keeper.start()

    def add(self, verdict: LoggedVerdict) -> Future[None]:
        """Write a verdict; the future is done when it is in the database, or on the disk."""
        values = verdict.values
        job = Job(lambda connection: changes.insert_verdict(connection, values), values)
        return self._submit(job)

    def write(self, verdict: LoggedVerdict, *, seconds: float = LONGEST_WAIT) -> None:
        """Write a verdict and wait until it is written; ``Refusal`` 503 after ``seconds``."""
        done = self.add(verdict)
        try:
            done.result(seconds)
        except TimeoutError:
            # Its verdict is not answered, so that it must not be written later.
            done.cancel()
            raise self.stuck(seconds) from None

    def stuck(self, seconds: float = LONGEST_WAIT) -> Refusal:
        """Return the refusal for a job that the writer did not finish in time."""
        return self._database.unusable(f"nothing was written for {seconds:g} s")

    def correct(self, verdict: str, says: str, by: str) -> Future[dict[str, Any]]:
        """Write an operator's correction; the future gives the row when it is in the database.

        The future raises ``Refusal`` as ``changes.insert_correction`` does, and 503 while the
        database is away.
        """

        def insert(connection: Connection) -> dict[str, Any]:
            with self._explained():
                return changes.insert_correction(connection, verdict, says, by)

        return self.submit(insert)

    def get(self, verdict: str) -> dict[str, Any]:
        """Return a verdict with its newest correction; ``Refusal`` 404 if it is unknown."""
        with self.reading() as connection, self._explained():
            return queries.row_of(connection, verdict)

    def find(
        self,
        *,
        model: str | None = None,
        model_hash: str | None = None,
        decision: str | None = None,
        station: str | None = None,
        since: float | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[list[dict[str, Any]], int]:
        """Return verdicts, newest first, and their number without the limit."""
        equal = {
            "model": model,
            "model_hash": model_hash,
            "decision": decision,
            "station": station,
        }
        wanted = {name: value for name, value in equal.items() if value is not None}
        with self.reading() as connection:
            return queries.page_of(connection, wanted, since, limit, offset)

    def each(self, equal: dict[str, str], since: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield all verdicts with these columns, newest first; memory does not grow with them."""
        before: tuple[float, str] | None = None
        while True:
            with self.reading() as connection:
                rows = queries.page_before(connection, equal, since, before, _LISTED_AT_ONCE)
            yield from rows
            if len(rows) < _LISTED_AT_ONCE:
                return
            before = rows[-1]["time"], rows[-1]["id"]

    def recent_scores(
        self, model: str, model_hash: str, limit: int, station: str | None = None
    ) -> list[float]:
        """Return the last scores of a version, newest first; of one station, or of all."""
        with self.reading() as connection:
            return queries.newest_scores(connection, model, model_hash, limit, station)

    def names(self, model_hash: str, since: float = 0.0) -> list[str]:
        """Return the names under which a version gave verdicts, sorted."""
        with self.reading(READ_ALL) as connection:
            return queries.names_of(connection, model_hash, since)

    def stations(self, model: str, model_hash: str, since: float = 0.0) -> dict[str, int]:
        """Return the stations at which a version gave verdicts, with their numbers, sorted."""
        with self.reading(READ_ALL) as connection:
            return queries.stations_of(connection, model, model_hash, since)

    def counts(
        self, model: str, model_hash: str, since: float = 0.0, station: str | None = None
    ) -> dict[str, int]:
        """Count the inputs that a version scored under a name, by decision."""
        with self.reading(READ_ALL) as connection:
            return queries.counts_of(connection, model, model_hash, since, station)

    def corrected(
        self, model: str, model_hash: str, since: float = 0.0, station: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the corrected verdicts of a version under a name, sorted by id.

        Each input has one row, with its newest correction.
        """
        with self.reading(READ_ALL) as connection:
            return queries.corrected_of(connection, model, model_hash, since, station)

    def replicas(self) -> tuple[list[Replica], float]:
        """Return the services that share the log as last read, and the database's time now.

        While the database is away it is the time of that reading: it is unknown who is silent.
        """
        at, then = self._replicas_at
        return self._replicas, at if self._mode == "spool" else at + time.monotonic() - then

    @property
    def state(self) -> LogState:
        """Where verdicts go now."""
        return LogState(
            mode=self._mode,
            since=self._since,
            why=self._why,
            waiting=0 if self._spool is None else self._spool.waiting,
            trouble=self._trouble,
            name_is_taken=self._twin,
        )

    def writable(self) -> bool:
        """Tell whether verdicts can be written, to the database or to the disk."""
        return self._writer.is_alive() and (self._mode == "database" or not self._trouble)

    def submit(self, run: Callable[[Connection], Any]) -> Future[Any]:
        """Run a job in the writing thread; the future is done when its rows are written."""
        return self._submit(Job(run))

    def close(self) -> None:
        """Write all that was submitted, then end the threads."""
        self._closed.set()
        if self._keeper is not None:
            self._keeper.join(2 * LONGEST_WAIT)
        if self._writer.is_alive():
            if self.name and self._mode != "spool":
                self.submit(lambda connection: retract(connection, self.name, self._started))
            self._jobs.put(None)
            self._writer.join(2 * LONGEST_WAIT)
        if self._spool is not None and not self._writer.is_alive():
            self._spool.close()
            self._spool = None
        self._database.close()

    def _prepare(self, *, lenient: bool) -> None:
        try:
            self._database.prepare()
        except (SQLAlchemyError, OSError) as error:
            reason = reason_of(error)
            if lenient and self.path is None and isinstance(error, OperationalError):
                self._leave(reason)
                return
            raise ArtifactError(
                f"{self._database.name} cannot be opened as a log of verdicts ({reason}); "
                + (
                    "check the address, and that the server runs and lets this user in."
                    if self.path is None
                    else "name another file or a folder that you may write to."
                )
            ) from error

    @contextmanager
    def reading(self, seconds: float = READ) -> Iterator[Connection]:
        """Open a connection to read; ``Refusal`` 503 while the database is away."""
        if self._mode == "spool":
            raise self._away()
        with self._database.reading(seconds) as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of an unknown verdict that it may be on its way to the database."""
        try:
            yield
        except Refusal as refusal:
            waiting = self.state.waiting + sum(
                replica.waiting for replica in self._replicas if replica.name != self.name
            )
            if refusal.code != "unknown_verdict" or not waiting:
                raise
            raise Refusal(
                503,
                "not_delivered",
                f"This verdict is not in the database; {waiting} verdicts wait on a disk until "
                "they are delivered, and it may be one of them. Try again later.",
                retry_after=5,
            ) from None

    def _away(self) -> Refusal:
        return self._database.unusable(self._why or "the database does not answer")

    def _submit(self, job: Job) -> Future[Any]:
        if self._writer.is_alive():
            self._jobs.put(job)
        else:
            job.done.set_exception(self._database.unusable("nothing is written any more"))
        return job.done

    def _write(self) -> None:
        while True:
            batch = [self._jobs.get()]
            while len(batch) < _MOST_AT_ONCE and batch[-1] is not None:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            self._handle([job for job in batch if job is not None and is_awaited(job)])
            if batch[-1] is None:
                return

    def _handle(self, jobs: list[Job]) -> None:
        """Write jobs to the database, or verdicts to the disk; never raises."""
        while jobs and (self._mode == "database" or self._spool is None):
            error = self._commit(jobs)
            if error is None:
                return
            if self._spool is None:
                logger.error("The log of verdicts cannot be written: %s", reason_of(error))
                settle((job, self._database.unusable(reason_of(error))) for job in jobs)
                return
            self._leave(reason_of(error))
        verdicts = [job for job in jobs if job.verdict is not None]
        others = [job for job in jobs if job.verdict is None]
        if verdicts:
            with self._switch:
                if self._mode != "database":
                    self._to_disk(verdicts)
                    verdicts = []
        if verdicts:  # the database came back meanwhile
            self._handle(verdicts)
        if others and self._mode != "spool":
            error = self._commit(others)
            if error is None:
                return
            self._leave(reason_of(error))
        settle((job, self._away()) for job in others)

    def _commit(self, jobs: list[Job]) -> BaseException | None:
        try:
            results = commit(self._database, jobs)
        except Exception as error:
            return error
        settle(results)
        return None

    def _to_disk(self, jobs: list[Job]) -> None:
        assert self._spool is not None
        try:
            self._spool.append([job.verdict for job in jobs if job.verdict is not None])
        except OSError as error:
            self._trouble = f"{error.strerror or error} ({self._spool.folder})"
            logger.error("Verdicts cannot be kept on the disk: %s", self._trouble)
            refusal = self._database.unusable(
                f"the database does not answer, and the disk cannot keep verdicts: {error.strerror}"
            )
            settle((job, refusal) for job in jobs)
        else:
            self._trouble = ""
            settle((job, None) for job in jobs)

    def _leave(self, why: str) -> None:
        if self._mode != "spool":
            logger.error(
                "The database of verdicts, %s, cannot be used (%s). Verdicts are kept on the disk "
                "and delivered later.",
                *(self._database.name, why),
            )
            self._since = time.time() if self._mode == "database" else self._since
        self._why = why
        self._mode = "spool"

    def _keep(self) -> None:
        while True:
            self._test_disk()
            try:
                self._look()
            except Exception as error:
                why = reason_of(error)
                if isinstance(error, TimeoutError):
                    why = f"nothing was written for {LONGEST_WAIT:g} s"
                if isinstance(error, Refusal) and self._mode == "spool":
                    pass  # the writing thread found out, and noted why
                elif self._spool is not None:
                    self._leave(why)
                else:
                    logger.error("The log cannot be looked after: %s", why)
            if self._closed.wait(self._every):
                return

    def _test_disk(self) -> None:
        """Find out that a full disk has room again: a service that is not ready gets no verdict."""
        if self._trouble and self._spool is not None:
            with suppress(OSError):
                self._spool.test()
                self._trouble = ""

    def _look(self) -> None:
        """Return to the database if it is back, deliver, report, and delete what is old."""
        spool = self._spool
        if spool is not None and self._mode == "spool":
            self._database.prepare()
            self._mode = "delivering"
        if self.name:
            self.submit(self._report).result(LONGEST_WAIT)
        if spool is not None and spool.count_left():
            spool.deliver_left(self._deliver)
        if spool is not None and self._mode == "delivering":
            spool.deliver(self._deliver)
            # What came meanwhile, while nothing more can come.
            with self._switch:
                spool.deliver(self._deliver)
                if spool.clear():
                    self._mode, self._since, self._why = "database", time.time(), ""
                    self._trouble = ""
                    logger.info("The database of verdicts is back; all are delivered.")
        if self._mode == "database" and time.monotonic() >= self._next_chores:
            self._next_chores = time.monotonic() + _CHORES
            self._delete_old()

    def _deliver(self, rows: Rows) -> None:
        if not rows:
            return
        try:
            values = [LoggedVerdict.of(row).values for row in rows]
            with self._database.writing() as connection:
                changes.deliver_verdicts(connection, values)
        except (TypeError, *STATEMENT_ERRORS) as error:
            if len(rows) > 1:
                for row in rows:
                    self._deliver([row])
            elif self._spool is not None:
                self._spool.set_aside([line_of(row) for row in rows], reason_of(error))

    def _report(self, connection: Connection) -> None:
        before = time.time()
        clock = self._database.clock(connection)
        now = time.time() if clock is None else clock
        replica = Replica(
            name=self.name,
            station=self.station,
            started=self._started,
            seen=now,
            clock_offset=0.0 if clock is None else (before + time.time()) / 2 - clock,
            chiasm=chiasm.__version__,
            keep_days=self._keep_days,
            waiting=self.state.waiting,
            models=self._models(),
        )
        earlier = next((r for r in read_replicas(connection) if r.name == self.name), None)
        # After the first report, only another service can have written this row.
        self._twin = bool(self._reports and earlier and earlier.started != self._started)
        report(connection, replica)
        self._reports += 1
        self._replicas = read_replicas(connection)
        self._replicas_at = now, time.monotonic()

    def _delete_old(self) -> None:
        now = time.time()
        days = self._keep_days

        def claim(connection: Connection) -> bool:
            claimed = changes.claim_hour(connection, f"deletion after {days:g} days", now)
            if claimed:
                changes.forget_silent(connection, days or _LONGEST_LISTED, now)
            return claimed

        def delete(connection: Connection) -> int:
            return changes.delete_old(connection, days, now, _DELETED_AT_ONCE)

        if not self.submit(claim).result(LONGEST_WAIT) or not days:
            return
        deleted, last = 0, _DELETED_AT_ONCE
        while last == _DELETED_AT_ONCE and not self._closed.is_set():
            last = self.submit(delete).result(LONGEST_WAIT)
            deleted += last
        if deleted:
            logger.info("%d verdicts older than %g days were deleted.", deleted, days)
