"""The log of verdicts: durability, retention, damage, concurrent readers."""

from __future__ import annotations

import inspect
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields, replace
from functools import partial
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from sqlalchemy import Connection, func, select
from stub_service import wait_until

from chiasm.cli.serve import serve
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError
from chiasm.service.log import changes, tables
from chiasm.service.log.database import Database
from chiasm.service.log.record import LoggedVerdict
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.model_pool import named_folders
from chiasm.service.settings import ServiceSettings, read_keys


def row(number: int, when: float) -> LoggedVerdict:
    return LoggedVerdict(
        f"{number:032x}", when, "gland", "h", "detector", "part", "0", 1.0, 0.5, 2.0, "good", 3.0
    )


# As earlier versions of chiasm made it.
VERSION_1 = """
CREATE TABLE verdicts (
  id TEXT PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, model_hash TEXT NOT NULL,
  wing TEXT NOT NULL, source TEXT NOT NULL, input_sha256 TEXT NOT NULL, score REAL, p_value REAL,
  threshold REAL, decision TEXT NOT NULL, latency_ms REAL NOT NULL, error TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX verdicts_by_time ON verdicts (time);
CREATE INDEX verdicts_by_model ON verdicts (model, time);
CREATE TABLE corrections (
  number INTEGER PRIMARY KEY, verdict TEXT NOT NULL REFERENCES verdicts (id) ON DELETE CASCADE,
  time REAL NOT NULL, says TEXT NOT NULL, by TEXT NOT NULL
);
CREATE INDEX corrections_by_verdict ON corrections (verdict);
PRAGMA user_version=1;
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Of an empty database of each kind."""
    if request.param == "sqlite":
        return tmp_path / "log.sqlite"
    return request.getfixturevalue("postgres").new_log()


@pytest.fixture
def log(address: Path | str) -> Iterator[VerdictLog]:
    opened = VerdictLog(address)
    yield opened
    opened.close()


def test_written_rows_survive_the_process(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    for number in range(50):
        log.add(row(number, float(number))).result(10)
    # Without close: another process sees the rows of finished futures.
    with sqlite3.connect(tmp_path / "log.sqlite") as other:
        assert other.execute("SELECT count(*) FROM verdicts").fetchone()[0] == 50
        assert other.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    other.close()
    log.close()


def test_closing_writes_the_submitted_rows(log: VerdictLog):
    waiting = [log.add(row(number, float(number))) for number in range(500)]
    log.close()
    assert all(done.done() for done in waiting)
    assert log.find()[1] == 500


def test_old_verdicts_and_their_corrections_are_deleted(address: Path | str, log: VerdictLog):
    now = time.time()
    log.add(row(1, now - 10 * 86_400)).result(10)
    log.add(row(2, now)).result(10)
    log.correct(row(1, 0).id, "right", "Ann").result(10)
    again = VerdictLog(address, keep_days=5)
    again.add(row(3, now)).result(10)
    wait_until(lambda: again.find()[1] == 2)
    assert {entry["id"] for entry in again.find()[0]} == {row(2, 0).id, row(3, 0).id}
    left = again.submit(
        lambda connection: connection.scalar(select(func.count(tables.corrections.c.number)))
    )
    assert left.result(10) == 0
    again.close()


def test_of_services_that_share_a_log_one_deletes(address: Path | str, log: VerdictLog):
    now = time.time()
    claims = [
        log.submit(lambda connection, hour=hour: changes.claim_hour(connection, "x", now + hour))
        for hour in (0, 1, 3599, 3600, 3601)
    ]
    assert [claim.result(10) for claim in claims] == [True, False, False, True, False]


def test_many_read_while_one_writes(log: VerdictLog):
    with ThreadPoolExecutor(6) as threads:
        written = [threads.submit(lambda n=n: log.add(row(n, n)).result(20)) for n in range(200)]
        read = [threads.submit(log.find, limit=10) for _ in range(50)]
        for future in (*written, *read):
            future.result(30)
    assert log.find()[1] == 200


def test_a_failed_job_does_not_undo_others(log: VerdictLog):
    log.add(row(1, 1.0)).result(10)
    wrong = log.correct("f" * 32, "right", "")
    right = log.correct(row(1, 0).id, "right", "")
    with pytest.raises(ChiasmError, match="no such verdict"):
        wrong.result(10)
    assert right.result(10)["says"] == "right"


def test_the_writer_survives_every_job(log: VerdictLog):
    def insert(connection: Connection, verdict: str) -> None:
        said = {"verdict": verdict, "time": 0.0, "says": "right", "by": ""}
        connection.execute(tables.corrections.insert(), said)

    def half_done(connection: Connection) -> None:
        insert(connection, row(1, 0).id)
        raise RuntimeError("an unexpected error")

    log.add(row(1, 1.0)).result(10)
    began, may_go_on = threading.Event(), threading.Event()
    log.submit(lambda connection: (began.set(), may_go_on.wait(10)))
    assert began.wait(10)  # so that the next ones are one batch
    cancelled = log.add(row(2, 2.0))
    assert cancelled.cancel()
    of_no_verdict = partial(insert, verdict="f" * 32)
    jobs = [log.submit(half_done), log.submit(of_no_verdict), log.add(row(3, 3.0))]
    may_go_on.set()
    with pytest.raises(ChiasmError, match="an unexpected error"):
        jobs[0].result(10)
    with pytest.raises(ChiasmError, match=r"(?i)foreign key"):
        jobs[1].result(10)
    jobs[2].result(10)
    log.add(replace(row(4, 4.0), error="\ud800\0", p_value=float("nan"))).result(10)
    log.correct(row(4, 0).id, "right", "\udc00\0").result(10)
    assert log.get(row(4, 0).id)["p_value"] is None
    assert log.writable()
    assert {entry["id"] for entry in log.find()[0]} == {row(n, 0).id for n in (1, 3, 4)}
    assert log.get(row(1, 0).id)["says"] is None  # its first half is undone
    log.close()
    with pytest.raises(ChiasmError, match="nothing is written any more"):
        log.write(row(5, 5.0))


def test_waiting_for_the_writer_ends_with_an_error(log: VerdictLog):
    began, may_go_on = threading.Event(), threading.Event()
    log.submit(lambda connection: (began.set(), may_go_on.wait(10)))
    assert began.wait(10)
    with pytest.raises(ChiasmError, match=r"nothing was written for 0\.1 s"):
        log.write(row(1, 1.0), seconds=0.1)
    may_go_on.set()
    log.close()
    assert log.find()[1] == 0


def test_other_files_and_later_versions_are_refused(tmp_path: Path):
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 100)
    with pytest.raises(ArtifactError, match="cannot be opened as a log"):
        VerdictLog(tmp_path / "text")
    with sqlite3.connect(tmp_path / "later") as later:
        later.execute("PRAGMA user_version=9")
    later.close()
    with pytest.raises(ArtifactError, match="version 9"):
        VerdictLog(tmp_path / "later")


def test_a_server_of_a_later_version_is_refused(postgres: PostgresServer):
    address = postgres.new_log()
    VerdictLog(address).close()
    import psycopg

    with psycopg.connect(address) as connection:
        connection.execute("UPDATE log_version SET version = 9")
    with pytest.raises(ArtifactError, match="version 9"):
        VerdictLog(address)


@pytest.mark.parametrize(
    "name",
    [
        "postgresql://nobody@127.0.0.1:1/log?connect_timeout=2",
        "mysql://x/y",
        "sqlite://x",
        "postgresql://:",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(name: str):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(
        ChiasmError, match=r"cannot be opened|not possible|names no file|cannot be read"
    ):
        VerdictLog(name)


def test_a_password_is_not_said():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    database = Database("postgresql://me:secret@10.1.2.3:5433/log")
    assert database.name == "postgresql://me@10.1.2.3:5433/log"
    assert "10.1.2.3" not in str(database.unusable("away"))


def test_the_log_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path):
    path = tmp_path / "verdicts.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1)
        old.execute(
            f"INSERT INTO verdicts VALUES ({', '.join('?' * 13)})", astuple(row(1, 1.0))[:13]
        )
        old.execute(
            "INSERT INTO corrections (verdict, time, says, by) VALUES (?, 2, 'right', 'Ann')",
            (row(1, 0).id,),
        )
    old.close()
    for _ in range(2):
        log = VerdictLog(path)
        log.add(replace(row(2, 2.0), station="left")).result(10)
        rows, total = log.find()
        assert total == 2
        assert [entry["station"] for entry in rows] == ["left", ""]
        assert rows[1] | {"says": "right", "by": "Ann"} == rows[1]
        log.close()
    with sqlite3.connect(path) as new:
        assert new.execute("PRAGMA user_version").fetchone()[0] == tables.VERSION
        made = dict(new.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    new.close()
    VerdictLog(tmp_path / "fresh.sqlite").close()
    with sqlite3.connect(tmp_path / "fresh.sqlite") as fresh:
        assert (
            made.keys()
            == dict(
                fresh.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            ).keys()
        )
    fresh.close()


def test_services_that_start_together_make_one_set_of_tables(address: Path | str):
    with ThreadPoolExecutor(4) as threads:
        logs = list(threads.map(lambda _: VerdictLog(address), range(4)))
    for number, log in enumerate(logs):
        log.write(row(number, float(number)))
    assert logs[0].find()[1] == 4
    for log in logs:
        log.close()


def test_a_request_that_is_sent_again_has_one_row(log: VerdictLog):
    first, second = row(1, 1.0), replace(row(1, 2.0), decision="defective", station="b")
    log.write(first)
    log.write(second)
    log.write(first)  # late: its service was slower than the one that answered
    assert [(entry["decision"], entry["station"]) for entry in log.find()[0]] == [
        ("defective", "b")
    ]
    with pytest.raises(ChiasmError, match="belongs to another input"):
        log.write(replace(row(1, 3.0), input_sha256="1"))
    log.correct(row(1, 0).id, "right", "").result(10)
    with pytest.raises(ChiasmError, match="an operator has corrected"):
        log.write(row(1, 4.0))
    assert log.find()[0][0]["decision"] == "defective"


def test_the_log_answers_by_station(log: VerdictLog):
    for number in range(6):
        station = "left" if number % 3 else "right"
        entry = replace(
            row(number, float(number)),
            station=station,
            score=float(number),
            input_sha256=str(number),
        )
        log.write(entry)
        log.correct(entry.id, "right", "").result(10)
    assert log.find(station="right")[1] == 2
    assert log.recent_scores("gland", "h", 10, "right") == [3.0, 0.0]
    assert log.recent_scores("gland", "h", 2) == [5.0, 4.0]
    assert log.stations("gland", "h") == {"left": 4, "right": 2}
    assert log.counts("gland", "h", station="left") == {"good": 4}
    assert len(log.corrected("gland", "h", station="left")) == 4


def test_settings_are_checked(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="queue"):
        ServiceSettings(queue=0)
    with pytest.raises(ConfigurationError, match="keep_days"):
        ServiceSettings(keep_days=-1)
    keys = tmp_path / "keys"
    keys.write_text("# line 3\nsixteen-letters-x\n\nanother-of-sixteen\n")
    assert read_keys(keys) == ("sixteen-letters-x", "another-of-sixteen")
    for text, word in (("# none\n", "holds no key"), ("short\n", "16")):
        keys.write_text(text)
        with pytest.raises(ConfigurationError, match=word):
            read_keys(keys)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_keys(tmp_path / "absent")


def test_the_command_has_the_defaults_of_the_settings():
    command = inspect.signature(serve).parameters
    shared = {field.name for field in fields(ServiceSettings)} & set(command)
    shared.remove("host_names")  # text in the command; tested in test_origins.py
    assert "max_megapixels" in shared
    for name in shared:
        assert command[name].default == getattr(ServiceSettings(), name), name


def test_models_have_names_that_differ():
    assert named_folders(["a/gland", "b=a/gland"]) == {
        "gland": Path("a/gland"),
        "b": Path("a/gland"),
    }
    for arguments, word in (
        (["a/x", "b/x"], "both be called"),
        (["ü=a"], "cannot be a model's name"),
    ):
        with pytest.raises(ConfigurationError, match=word):
            named_folders(arguments)
