"""The log of all verdicts: SQLite, one thread that writes, any number that read."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from chiasm.errors import ArtifactError
from chiasm.service.log_commit import Job, commit, storable, unwritable
from chiasm.service.logged_verdict import (
    INSERT,
    ONE_OF_EACH_INPUT,
    TABLES,
    VERSION,
    WITH_CORRECTION,
    LoggedVerdict,
)
from chiasm.service.refusals import Refusal

logger = logging.getLogger(__name__)

_DAY = 86400.0
_MOST_AT_ONCE = 256
# Seconds; SQLite itself waits 10 for a lock that somebody else holds.
LONGEST_WAIT = 15.0


class VerdictLog:
    """An open log; created where there is none.

    Args:
        path: of the database; two files beside it, ``-wal`` and ``-shm``, belong to it.
        keep_days: after which a verdict is forgotten; 0 keeps all.

    Raises ``ArtifactError`` where the file is no log, or one of a later version.
    """

    def __init__(self, path: Path, *, keep_days: float = 0.0) -> None:
        self.path = path
        self._keep_days = keep_days
        self._jobs: queue.Queue[tuple[Job, Future[Any]] | None] = queue.Queue()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                if found > VERSION:
                    raise ArtifactError(
                        f"{path} is a log of version {found}, and this is made for version "
                        f"{VERSION}; use a newer chiasm, or another file."
                    )
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(TABLES)
                connection.execute(f"PRAGMA user_version={VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(
                f"{path} cannot be opened as a log of verdicts ({error}); name another file or a "
                "folder that you may write to."
            ) from error
        self._writer = threading.Thread(target=self._write, name="verdict-log", daemon=True)
        self._writer.start()

    def add(self, verdict: LoggedVerdict) -> Future[None]:
        """Write a verdict; done when it is in the file."""
        values = tuple(
            storable(value) if isinstance(value, str) else value for value in astuple(verdict)
        )

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, values)

        return self._submit(insert)

    def write(self, verdict: LoggedVerdict, *, seconds: float = LONGEST_WAIT) -> None:
        """Write a verdict and wait until it is in the file; ``Refusal`` 503 after ``seconds``."""
        done = self.add(verdict)
        try:
            done.result(seconds)
        except TimeoutError:
            # Not written later, unless it is being written now: its verdict is not given.
            done.cancel()
            raise self.stuck(seconds) from None

    def stuck(self, seconds: float = LONGEST_WAIT) -> Refusal:
        """The refusal where the writer did not get to something in time."""
        return unwritable(self.path, f"nothing was written for {seconds:g} s")

    def correct(self, verdict: str, says: str, by: str) -> Future[dict[str, Any]]:
        """Write what an operator says of a verdict; the row with it when it is in the file.

        The future raises ``Refusal`` for a verdict that is not there, and for a correction that
        contradicts it: only an alarm is false, and only a good part is a miss.
        """

        def insert(connection: sqlite3.Connection) -> dict[str, Any]:
            row = _one(connection, verdict)
            wrong = {"false alarm": "good", "missed": "defective"}.get(says)
            if row["decision"] == "error" or (
                row["wing"] == "detector" and wrong == row["decision"]
            ):
                raise Refusal(
                    409,
                    "contradiction",
                    f"The verdict was {row['decision']!r}, which cannot be {says!r}; a false alarm "
                    "is a good part called defective, a miss a defective one called good.",
                )
            connection.execute(
                "INSERT INTO corrections (verdict, time, says, by) VALUES (?, ?, ?, ?)",
                (verdict, time.time(), storable(says), storable(by)),
            )
            return _one(connection, verdict)

        return self._submit(insert)

    def one(self, verdict: str) -> dict[str, Any]:
        """A verdict with its newest correction; ``Refusal`` 404 where it is not there."""
        with self._reading() as connection:
            return _one(connection, verdict)

    def find(
        self,
        *,
        model: str | None = None,
        model_hash: str | None = None,
        decision: str | None = None,
        since: float | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[list[dict[str, Any]], int]:
        """Verdicts, newest first, and how many there are without the limit."""
        asked = {
            "v.model = ?": model,
            "v.model_hash = ?": model_hash,
            "v.decision = ?": decision,
            "v.time >= ?": since,
        }
        given = {text: value for text, value in asked.items() if value is not None}
        where = " AND ".join(given) or "1"
        values: list[Any] = list(given.values())
        with self._reading() as connection:
            total = connection.execute(f"SELECT count(*) FROM verdicts v WHERE {where}", values)
            rows = connection.execute(
                f"{WITH_CORRECTION} WHERE {where} ORDER BY v.time DESC, v.id LIMIT ? OFFSET ?",
                [*values, limit, offset],
            )
            return [dict(row) for row in rows], int(total.fetchone()[0])

    def recent_scores(self, model: str, model_hash: str, limit: int) -> list[float]:
        """Scores that a version gave last, newest first."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT score FROM verdicts WHERE model = ? AND model_hash = ? AND score IS NOT "
                "NULL ORDER BY time DESC LIMIT ?",
                (model, model_hash, limit),
            )
            return [float(row[0]) for row in rows]

    def names(self, model_hash: str, since: float = 0.0) -> list[str]:
        """Under which names a version gave verdicts, in order."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT model FROM verdicts WHERE model_hash = ? AND time >= ? "
                "ORDER BY model",
                (model_hash, since),
            )
            return [str(row[0]) for row in rows]

    def counts(self, model: str, model_hash: str, since: float = 0.0) -> dict[str, int]:
        """How many inputs a version judged under a name, by decision."""
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT decision, count(*) FROM ({ONE_OF_EACH_INPUT}) GROUP BY decision",
                (model, model_hash, since),
            )
            return {str(row[0]): int(row[1]) for row in rows}

    def corrected(self, model: str, model_hash: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Verdicts of a version under a name of which an operator said something, by id.

        One for each input; of several corrections the newest.
        """
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT * FROM ({ONE_OF_EACH_INPUT}) WHERE says IS NOT NULL ORDER BY id",
                (model, model_hash, since),
            )
            return [dict(row) for row in rows]

    def writable(self) -> bool:
        """Tell whether the writer is alive."""
        return self._writer.is_alive()

    def close(self) -> None:
        """Write what was given, then end."""
        if self._writer.is_alive():
            self._jobs.put(None)
            self._writer.join(2 * LONGEST_WAIT)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise unwritable(self.path, error) from error

    def _submit(self, job: Job) -> Future[Any]:
        done: Future[Any] = Future()
        if not self._writer.is_alive():
            done.set_exception(unwritable(self.path, "nothing is written any more"))
            return done
        self._jobs.put((job, done))
        return done

    def _write(self) -> None:
        with closing(self._connect()) as connection:
            forget_at = 0.0
            while True:
                if self._keep_days and time.monotonic() >= forget_at:
                    forget_at = time.monotonic() + 3600
                    self._forget(connection)
                try:
                    first = self._jobs.get(timeout=600)
                except queue.Empty:
                    continue
                batch = [first]
                while len(batch) < _MOST_AT_ONCE and batch[-1] is not None:
                    try:
                        batch.append(self._jobs.get_nowait())
                    except queue.Empty:
                        break
                commit(connection, [job for job in batch if job is not None], self.path)
                if batch[-1] is None:
                    return

    def _forget(self, connection: sqlite3.Connection) -> None:
        try:
            gone = connection.execute(
                "DELETE FROM verdicts WHERE time < ?", (time.time() - self._keep_days * _DAY,)
            ).rowcount
        except sqlite3.Error as error:
            logger.error("Old verdicts could not be forgotten: %s", error)
        else:
            if gone:
                logger.info("%d verdicts older than %g days forgotten.", gone, self._keep_days)


def _one(connection: sqlite3.Connection, verdict: str) -> dict[str, Any]:
    row = connection.execute(f"{WITH_CORRECTION} WHERE v.id = ?", (verdict,)).fetchone()
    if row is None:
        raise unknown_verdict()
    return dict(row)


def unknown_verdict() -> Refusal:
    """The refusal of an id that is not in the log."""
    return Refusal(
        404, "unknown_verdict", "There is no such verdict in the log; it may have been forgotten."
    )
