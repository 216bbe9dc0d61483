"""The log of verdicts: durability, retention, damage, concurrent readers."""

from __future__ import annotations

import inspect
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from chiasm.cli.serve import serve
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError
from chiasm.service.model_pool import named_folders
from chiasm.service.settings import ServiceSettings, read_keys
from chiasm.service.verdict_log import LoggedVerdict, VerdictLog


def row(number: int, when: float) -> LoggedVerdict:
    return LoggedVerdict(
        f"{number:032x}", when, "gland", "h", "detector", "part", "0", 1.0, 0.5, 2.0, "good", 3.0
    )


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


def test_closing_writes_the_submitted_rows(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    waiting = [log.add(row(number, float(number))) for number in range(500)]
    log.close()
    assert all(done.done() for done in waiting)
    assert log.find()[1] == 500


def test_old_verdicts_and_their_corrections_are_deleted(tmp_path: Path):
    now = time.time()
    log = VerdictLog(tmp_path / "log.sqlite")
    log.add(row(1, now - 10 * 86_400)).result(10)
    log.add(row(2, now)).result(10)
    log.correct(row(1, 0).id, "right", "Ann").result(10)
    log.close()
    again = VerdictLog(tmp_path / "log.sqlite", keep_days=5)
    again.add(row(3, now)).result(10)  # after the deletion at its start
    assert {entry["id"] for entry in again.find()[0]} == {row(2, 0).id, row(3, 0).id}
    again.close()
    with sqlite3.connect(tmp_path / "log.sqlite") as other:
        assert other.execute("SELECT count(*) FROM corrections").fetchone()[0] == 0
    other.close()


def test_many_read_while_one_writes(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    with ThreadPoolExecutor(6) as threads:
        written = [threads.submit(lambda n=n: log.add(row(n, n)).result(20)) for n in range(200)]
        read = [threads.submit(log.find, limit=10) for _ in range(50)]
        for future in (*written, *read):
            future.result(30)
    assert log.find()[1] == 200
    log.close()


def test_a_failed_job_does_not_undo_others(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    log.add(row(1, 1.0)).result(10)
    wrong = log.correct("f" * 32, "right", "")
    right = log.correct(row(1, 0).id, "right", "")
    with pytest.raises(ChiasmError, match="no such verdict"):
        wrong.result(10)
    assert right.result(10)["says"] == "right"
    log.close()


def test_the_writer_survives_every_job(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")

    def half_done(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO corrections VALUES (7, ?, 0, 'right', '')", (row(1, 0).id,))
        raise RuntimeError("an unexpected error")

    log.add(row(1, 1.0)).result(10)
    may_go_on = threading.Event()
    log.submit(lambda connection: may_go_on.wait(10))  # so that the next ones are one batch
    cancelled = log.add(row(2, 2.0))
    assert cancelled.cancel()
    jobs = [log.submit(half_done), log.add(row(1, 1.0)), log.add(row(3, 3.0))]
    may_go_on.set()
    with pytest.raises(ChiasmError, match="an unexpected error"):
        jobs[0].result(10)
    with pytest.raises(ChiasmError, match="UNIQUE"):
        jobs[1].result(10)
    jobs[2].result(10)
    log.add(replace(row(4, 4.0), error="\ud800")).result(10)
    log.correct(row(4, 0).id, "right", "\udc00").result(10)
    assert log.writable()
    assert {entry["id"] for entry in log.find()[0]} == {row(n, 0).id for n in (1, 3, 4)}
    assert log.get(row(1, 0).id)["says"] is None  # its first half is undone
    log.close()
    with pytest.raises(ChiasmError, match="nothing is written any more"):
        log.write(row(5, 5.0))


def test_waiting_for_the_writer_ends_with_an_error(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    may_go_on = threading.Event()
    log.submit(lambda connection: may_go_on.wait(10))
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
