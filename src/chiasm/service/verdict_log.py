"""The log of all verdicts: SQLite, one writing thread, any number of readers."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from chiasm.errors import ArtifactError, ChiasmError
from chiasm.service.refusals import Refusal

logger = logging.getLogger(__name__)

_DAY = 86400.0

_MOST_AT_ONCE = 256

# Seconds; SQLite itself waits 10 for a lock of another process.
LONGEST_WAIT = 15.0


class VerdictLog:
    """An open log; its file is created if it does not exist.

    Args:
        path: of the database; two files beside it, ``-wal`` and ``-shm``, belong to it.
        keep_days: age in days at which a verdict is deleted; 0 keeps all.

    Raises ``ArtifactError`` if the file is not a log, or one of a later version.
    """

    def __init__(self, path: Path, *, keep_days: float = 0.0) -> None:
        self.path = path
        self._keep_days = keep_days
        self._jobs: queue.Queue[tuple[Job, Future[Any]] | None] = queue.Queue()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version > VERSION:
                    raise ArtifactError(
                        f"{path} is a log of version {version}, and this chiasm reads version "
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
        """Write a verdict; the future is done when it is in the file."""
        values = tuple(
            storable(value) if isinstance(value, str) else value for value in astuple(verdict)
        )

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, values)

        return self.submit(insert)

    def write(self, verdict: LoggedVerdict, *, seconds: float = LONGEST_WAIT) -> None:
        """Write a verdict and wait until it is in the file; ``Refusal`` 503 after ``seconds``."""
        done = self.add(verdict)
        try:
            done.result(seconds)
        except TimeoutError:
            # Its verdict is not answered, so that it must not be written later.
            done.cancel()
            raise self.stuck(seconds) from None

    def stuck(self, seconds: float = LONGEST_WAIT) -> Refusal:
        """Return the refusal for a job that the writer did not finish in time."""
        return unwritable(self.path, f"nothing was written for {seconds:g} s")

    def correct(self, verdict: str, says: str, by: str) -> Future[dict[str, Any]]:
        """Write an operator's correction; the future gives the row when it is in the file.

        The future raises ``Refusal`` for an unknown verdict, and for a correction that contradicts
        it: only a defective verdict can be a false alarm, and only a good one a miss.
        """

        def insert(connection: sqlite3.Connection) -> dict[str, Any]:
            row = _row(connection, verdict)
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
            connection.execute(
                "INSERT INTO corrections (verdict, time, says, by) VALUES (?, ?, ?, ?)",
                (verdict, time.time(), storable(says), storable(by)),
            )
            return _row(connection, verdict)

        return self.submit(insert)

    def get(self, verdict: str) -> dict[str, Any]:
        """Return a verdict with its newest correction; ``Refusal`` 404 if it is unknown."""
        with self._reading() as connection:
            return _row(connection, verdict)

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
        """Return verdicts, newest first, and their number without the limit."""
        conditions = {
            "v.model = ?": model,
            "v.model_hash = ?": model_hash,
            "v.decision = ?": decision,
            "v.time >= ?": since,
        }
        active = {text: value for text, value in conditions.items() if value is not None}
        where = " AND ".join(active) or "1"
        values: list[Any] = list(active.values())
        with self._reading() as connection:
            total = connection.execute(f"SELECT count(*) FROM verdicts v WHERE {where}", values)
            rows = connection.execute(
                f"{WITH_CORRECTION} WHERE {where} ORDER BY v.time DESC, v.id LIMIT ? OFFSET ?",
                [*values, limit, offset],
            )
            return [dict(row) for row in rows], int(total.fetchone()[0])

    def recent_scores(self, model: str, model_hash: str, limit: int) -> list[float]:
        """Return the last scores of a version, newest first."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT score FROM verdicts WHERE model = ? AND model_hash = ? AND score IS NOT "
                "NULL ORDER BY time DESC LIMIT ?",
                (model, model_hash, limit),
            )
            return [float(row[0]) for row in rows]

    def names(self, model_hash: str, since: float = 0.0) -> list[str]:
        """Return the names under which a version gave verdicts, sorted."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT model FROM verdicts WHERE model_hash = ? AND time >= ? "
                "ORDER BY model",
                (model_hash, since),
            )
            return [str(row[0]) for row in rows]

    def counts(self, model: str, model_hash: str, since: float = 0.0) -> dict[str, int]:
        """Count the inputs that a version scored under a name, by decision."""
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT decision, count(*) FROM ({ONE_OF_EACH_INPUT}) GROUP BY decision",
                (model, model_hash, since),
            )
            return {str(row[0]): int(row[1]) for row in rows}

    def corrected(self, model: str, model_hash: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Return the corrected verdicts of a version under a name, sorted by id.

        Each input has one row, with its newest correction.
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
        """Write all that was submitted, then end the writer."""
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

    def submit(self, job: Job) -> Future[Any]:
        """Run a job in the writing thread; the future is done when its rows are in the file."""
        done: Future[Any] = Future()
        if not self._writer.is_alive():
            done.set_exception(unwritable(self.path, "nothing is written any more"))
            return done
        self._jobs.put((job, done))
        return done

    def _write(self) -> None:
        with closing(self._connect()) as connection:
            next_deletion = 0.0
            while True:
                if self._keep_days and time.monotonic() >= next_deletion:
                    next_deletion = time.monotonic() + 3600
                    self._delete_old(connection)
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

    def _delete_old(self, connection: sqlite3.Connection) -> None:
        try:
            deleted = connection.execute(
                "DELETE FROM verdicts WHERE time < ?", (time.time() - self._keep_days * _DAY,)
            ).rowcount
        except sqlite3.Error as error:
            logger.error("Old verdicts could not be deleted: %s", error)
        else:
            if deleted:
                logger.info(
                    "%d verdicts older than %g days were deleted.", deleted, self._keep_days
                )


def _row(connection: sqlite3.Connection, verdict: str) -> dict[str, Any]:
    row = connection.execute(f"{WITH_CORRECTION} WHERE v.id = ?", (verdict,)).fetchone()
    if row is None:
        raise unknown_verdict()
    return dict(row)


def unknown_verdict() -> Refusal:
    """Return the refusal of an id that is not in the log."""
    return Refusal(
        404,
        "unknown_verdict",
        "There is no such verdict in the log; it may have been deleted (option --keep-days).",
    )


Job = Callable[[sqlite3.Connection], Any]

# SQLite's errors of one statement; its other errors concern the whole file.
_STATEMENT_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
)


def commit(
    connection: sqlite3.Connection, batch: list[tuple[Job, Future[Any]]], path: Path
) -> None:
    """Do a batch in one transaction; futures are done after it is in the file.

    A job that fails is undone and its future raises; the others are written. Cancelled jobs are
    left out. Never raises: the writing thread must survive every job.
    """
    try:
        results = _in_one_transaction(connection, batch, path)
    except Exception as error:
        logger.error("The log of verdicts cannot be written: %s", error)
        _roll_back(connection)
        results = [(done, unwritable(path, error)) for _, done in batch if _is_awaited(done)]
    for done, result in results:
        if isinstance(result, BaseException):
            done.set_exception(result)
        else:
            done.set_result(result)


def unwritable(path: Path, reason: object) -> Refusal:
    """Return the refusal of a request while the log cannot be used."""
    return Refusal(
        503,
        "log_unavailable",
        f"The log of verdicts cannot be used ({reason}), and only logged verdicts are given; the "
        f"operator of this service should check {path.name}.",
        retry_after=5,
    )


def storable(text: str) -> str:
    """Return text as SQLite takes it: lone surrogates, which UTF-8 cannot hold, become ``?``."""
    return text.encode("utf-8", "replace").decode()


def _in_one_transaction(
    connection: sqlite3.Connection, batch: list[tuple[Job, Future[Any]]], path: Path
) -> list[tuple[Future[Any], Any]]:
    """Return each job's result or error; raises if nothing was written."""
    results: list[tuple[Future[Any], Any]] = []
    connection.execute("BEGIN IMMEDIATE")
    for job, done in batch:
        if not _is_awaited(done):
            continue
        connection.execute("SAVEPOINT job")
        try:
            results.append((done, job(connection)))
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _STATEMENT_ERRORS):
                raise
            connection.execute("ROLLBACK TO job")
            if not isinstance(error, ChiasmError):
                logger.error("A row of the log cannot be written.", exc_info=error)
                error = unwritable(path, error)
            results.append((done, error))
        connection.execute("RELEASE job")
    connection.execute("COMMIT")
    return results


def _is_awaited(done: Future[Any]) -> bool:
    """Tell whether a job was not cancelled; from then on it cannot be."""
    return done.running() or (not done.cancelled() and done.set_running_or_notify_cancel())


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        logger.error("The log's transaction cannot be undone: %s", error)


VERSION = 1

TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (
  id TEXT PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, model_hash TEXT NOT NULL,
  wing TEXT NOT NULL, source TEXT NOT NULL, input_sha256 TEXT NOT NULL, score REAL, p_value REAL,
  threshold REAL, decision TEXT NOT NULL, latency_ms REAL NOT NULL, error TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_by_time ON verdicts (time);
CREATE INDEX IF NOT EXISTS verdicts_by_model ON verdicts (model, time);
CREATE TABLE IF NOT EXISTS corrections (
  number INTEGER PRIMARY KEY, verdict TEXT NOT NULL REFERENCES verdicts (id) ON DELETE CASCADE,
  time REAL NOT NULL, says TEXT NOT NULL, by TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS corrections_by_verdict ON corrections (verdict);
"""

# Of several corrections the newest counts; all are kept.
WITH_CORRECTION = """
SELECT v.*, c.says, c.by, c.time AS corrected FROM verdicts v LEFT JOIN corrections c
ON c.number = (SELECT max(number) FROM corrections WHERE verdict = v.id)
"""

# One row of a version for each input, however often it was sent: the row with the newest
# correction, or else the newest that is not an error.
ONE_OF_EACH_INPUT = f"""
SELECT * FROM (
  SELECT *, row_number() OVER (
    PARTITION BY input_sha256 ORDER BY correction DESC NULLS LAST, decision = 'error', time DESC, id
  ) AS nth FROM ({WITH_CORRECTION.replace("v.*,", "v.*, c.number AS correction,")}
    WHERE v.model = ? AND v.model_hash = ? AND v.time >= ?)
) WHERE nth = 1
"""


@dataclass(frozen=True, slots=True)
class LoggedVerdict:
    """A row of the log; without a decision, that of an error.

    Attributes:
        id: 32 hexadecimal digits.
        time: seconds since 1970, UTC.
        model: name in the address.
        model_hash: of the version that was used.
        wing: ``"detector"`` or ``"classifier"``.
        source: the client's name for the part, cleaned.
        input_sha256: over the files' bytes.
        score: raw score of a part, or largest probability of a recording; None on error.
        p_value: of a part with calibration scores; else None.
        threshold: above which a score is an alarm, or None.
        decision: ``"defective"``, ``"good"``, ``"undecided"``, a kind, or ``"error"``.
        latency_ms: from the whole request to the verdict.
        error: a sentence, or "".
    """

    id: str
    time: float
    model: str
    model_hash: str
    wing: str
    source: str
    input_sha256: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    decision: str = "error"
    latency_ms: float = 0.0
    error: str = ""


_COLUMNS = tuple(field.name for field in fields(LoggedVerdict))

INSERT = f"INSERT INTO verdicts VALUES ({', '.join('?' * len(_COLUMNS))})"
