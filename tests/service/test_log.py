"""The log by itself: retention, damage, many who read while one writes."""

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


def test_what_is_told_as_written_survives_the_process(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    for number in range(50):
        log.add(row(number, float(number))).result(10)
    # No close: another process sees what was told as done.
    with sqlite3.connect(tmp_path / "log.sqlite") as other:
        assert other.execute("SELECT count(*) FROM verdicts").fetchone()[0] == 50
        assert other.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    other.close()
    log.close()


def test_closing_writes_what_was_given(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    waiting = [log.add(row(number, float(number))) for number in range(500)]
    log.close()
    assert all(done.done() for done in waiting)
    assert log.find()[1] == 500


def test_old_verdicts_and_their_corrections_are_forgotten(tmp_path: Path):
    now = time.time()
    log = VerdictLog(tmp_path / "log.sqlite")
    log.add(row(1, now - 10 * 86_400)).result(10)
    log.add(row(2, now)).result(10)
    log.correct(row(1, 0).id, "right", "Ann").result(10)
    log.close()
    again = VerdictLog(tmp_path / "log.sqlite", keep_days=5)
    again.add(row(3, now)).result(10)  # after the writer has looked back
    assert {one["id"] for one in again.find()[0]} == {row(2, 0).id, row(3, 0).id}
    again.close()
    with sqlite3.connect(tmp_path / "log.sqlite") as other:
        assert other.execute("SELECT count(*) FROM corrections").fetchone()[0] == 0
    other.close()


def test_many_read_while_one_writes(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    with ThreadPoolExecutor(6) as people:
        written = [people.submit(lambda n=n: log.add(row(n, n)).result(20)) for n in range(200)]
        read = [people.submit(log.find, limit=10) for _ in range(50)]
        for one in (*written, *read):
            one.result(30)
    assert log.find()[1] == 200
    log.close()


def test_one_that_fails_does_not_take_others_with_it(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    log.add(row(1, 1.0)).result(10)
    wrong = log.correct("f" * 32, "right", "")
    right = log.correct(row(1, 0).id, "right", "")
    with pytest.raises(ChiasmError, match="no such verdict"):
        wrong.result(10)
    assert right.result(10)["says"] == "right"
    log.close()


def test_the_writer_outlives_whatever_it_is_given(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")

    def half_done(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO corrections VALUES (7, ?, 0, 'right', '')", (row(1, 0).id,))
        raise RuntimeError("foreseen by nobody")

    log.add(row(1, 1.0)).result(10)
    gate = threading.Event()
    log.submit(lambda connection: gate.wait(10))  # so that the next ones are one batch
    left = log.add(row(2, 2.0))
    assert left.cancel()
    jobs = [log.submit(half_done), log.add(row(1, 1.0)), log.add(row(3, 3.0))]
    gate.set()
    with pytest.raises(ChiasmError, match="foreseen by nobody"):
        jobs[0].result(10)
    with pytest.raises(ChiasmError, match="UNIQUE"):
        jobs[1].result(10)
    jobs[2].result(10)
    log.add(replace(row(4, 4.0), error="\ud800")).result(10)
    log.correct(row(4, 0).id, "right", "\udc00").result(10)
    assert log.writable()
    assert {one["id"] for one in log.find()[0]} == {row(n, 0).id for n in (1, 3, 4)}
    assert log.one(row(1, 0).id)["says"] is None  # the half that was done is undone
    log.close()
    with pytest.raises(ChiasmError, match="nothing is written any more"):
        log.write(row(5, 5.0))


def test_nobody_waits_for_the_writer_without_end(tmp_path: Path):
    log = VerdictLog(tmp_path / "log.sqlite")
    gate = threading.Event()
    log.submit(lambda connection: gate.wait(10))
    with pytest.raises(ChiasmError, match=r"nothing was written for 0\.1 s"):
        log.write(row(1, 1.0), seconds=0.1)
    gate.set()
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
    shared.remove("host_names")  # text there; what it becomes has a test of its own
    assert "max_megapixels" in shared
    for name in shared:
        assert command[name].default == getattr(ServiceSettings(), name), name


def test_models_have_names_that_differ():
    assert named_folders(["a/gland", "b=a/gland"]) == {
        "gland": Path("a/gland"),
        "b": Path("a/gland"),
    }
    for given, word in ((["a/x", "b/x"], "both be called"), (["ü=a"], "cannot be a model's name")):
        with pytest.raises(ConfigurationError, match=word):
            named_folders(given)
