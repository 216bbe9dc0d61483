"""The database goes away at the start or in service: verdicts go on, and none is lost."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from sqlalchemy.exc import OperationalError
from stub_service import RunningService, Start, grey, wait_until

from chiasm.files.spool import Spool
from chiasm.service.log import changes, database, verdict_log
from chiasm.service.log.record import LoggedVerdict
from chiasm.service.log.replicas import differences
from chiasm.service.log.verdict_log import VerdictLog

URL = "/v1/models/gland/predict"
Open = Callable[..., VerdictLog]


def row(number: int, **fields: Any) -> LoggedVerdict:
    values = {"input_sha256": str(number), "score": 1.0, "decision": "good"} | fields
    return LoggedVerdict(f"{number:032x}", time.time(), "gland", "h", "detector", "part", **values)


@pytest.fixture
def opened(postgres: PostgresServer, tmp_path: Path) -> Iterator[Open]:
    """Open logs of one database, which share a spool."""
    address = postgres.new_log()
    logs: list[VerdictLog] = []

    def begin(**settings: Any) -> VerdictLog:
        spool = tmp_path / "spool"
        log = VerdictLog(address, **{"spool": spool, "name": "a", "every": 0.02, **settings})
        logs.append(log)
        return log

    yield begin
    postgres.start()
    for log in logs:
        log.close()


def is_back(log: VerdictLog) -> bool:
    return log.state.mode == "database"


def ids(log: VerdictLog) -> list[str]:
    return sorted(entry["id"] for entry in log.find(limit=1000)[0])


def test_verdicts_wait_on_the_disk_and_are_delivered(postgres: PostgresServer, opened: Open):
    log = opened()
    log.write(row(0))
    postgres.kill()
    for number in range(1, 6):
        log.write(row(number))
    state = log.state
    assert (state.mode, state.waiting) == ("spool", 5)
    assert "5 verdicts are on this service's disk" in state.sentences[0]
    with pytest.raises(Exception, match="cannot be used"):
        log.find()
    with pytest.raises(Exception, match="cannot be used"):
        log.correct(row(0).id, "right", "").result(10)
    postgres.start()
    wait_until(lambda: is_back(log), 20)
    assert ids(log) == [row(number).id for number in range(6)]
    assert log.state.waiting == 0
    log.write(row(6))
    assert log.find()[1] == 7


def test_an_outage_is_seen_without_any_verdict(postgres: PostgresServer, opened: Open):
    log = opened()
    postgres.kill()
    wait_until(lambda: log.state.mode == "spool")
    postgres.start()
    wait_until(lambda: is_back(log), 20)


def test_others_are_not_called_silent_while_nothing_is_heard(
    postgres: PostgresServer, opened: Open
):
    log, other = opened(), opened(name="b")
    wait_until(lambda: len(log.replicas()[0]) == 2)
    postgres.kill()
    wait_until(lambda: log.state.mode == "spool")
    at, then = log._replicas_at
    log._replicas_at = at, then - 3600  # an hour passes
    assert differences(*log.replicas()) == []
    assert other.name == "b"


def test_a_service_starts_while_the_database_is_away(
    postgres: PostgresServer, opened: Open, caplog: pytest.LogCaptureFixture
):
    postgres.kill()
    log = opened()
    assert "Verdicts are kept on the disk" in caplog.text
    log.write(row(1))
    assert log.writable()
    postgres.start()
    wait_until(lambda: is_back(log), 20)  # the tables are made now
    assert ids(log) == [row(1).id]


def test_a_database_that_does_not_answer_delays_a_verdict_for_seconds(
    postgres: PostgresServer, opened: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "_WRITE", 0.3)
    log = opened(every=60.0)
    log.write(row(1))
    postgres.freeze()
    log.write(row(2), seconds=10)
    assert log.state.mode == "spool"
    assert "did not answer within" in log.state.why
    postgres.thaw()
    # What the frozen server was sent may be written, too.
    log._look()
    assert is_back(log)
    assert ids(log) == [row(1).id, row(2).id]


def test_what_a_killed_service_kept_is_delivered_by_another(opened: Open, tmp_path: Path):
    killed = Spool(tmp_path / "spool", owner="killed")
    killed.append([row(number).values for number in (1, 2)])
    log = opened()
    assert not ids(log)
    killed.close()  # its lock, as a kill does
    wait_until(lambda: len(ids(log)) == 2)
    assert is_back(log)
    assert [path.name for path in (tmp_path / "spool").iterdir() if "killed" in path.name] == []


def test_a_verdict_that_is_delivered_twice_has_one_row(opened: Open):
    log = opened()
    twice = [row(1).values, row(2).values]
    log._deliver(twice)
    log.correct(row(1).id, "right", "").result(10)
    log._deliver(twice)
    assert ids(log) == [row(1).id, row(2).id]
    assert log.get(row(1).id)["says"] == "right"


def test_two_parts_under_one_key_are_both_kept(opened: Open):
    log = opened()
    log.write(row(1))
    other = row(1, input_sha256="another part").values
    for _ in range(2):
        log._deliver([other, row(2).values])
    assert log.find()[1] == 3
    assert {entry["input_sha256"] for entry in log.find()[0]} == {"1", "2", "another part"}


def test_a_row_that_no_database_takes_does_not_block_the_others(opened: Open, tmp_path: Path):
    log = opened()
    bad = {**row(2).values, "decision": None}
    # Of an earlier version without stations, and of a later one with more.
    lacking = {name: value for name, value in row(1).values.items() if name != "station"}
    log._deliver([lacking, bad, {"id": row(4).id}, {**row(3).values, "shift": 2}])
    assert ids(log) == [row(1).id, row(3).id]
    assert row(4).id in (tmp_path / "spool" / "set-aside.txt").read_text()
    assert row(2).id in (tmp_path / "spool" / "set-aside.txt").read_text()


def test_a_verdict_on_its_way_is_not_called_unknown(postgres: PostgresServer, opened: Open):
    log = opened()
    other = opened(name="b", every=60.0)  # has not looked since, as a service on another machine
    postgres.kill()
    other.write(row(1))
    postgres.start()
    wait_until(lambda: is_back(log), 20)
    other._mode = "delivering"
    with pytest.raises(Exception, match="wait on a disk"):
        other.get(row(1).id)


def test_a_file_that_cannot_be_written_is_like_a_server_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = VerdictLog(tmp_path / "log.sqlite", spool=tmp_path / "spool", every=0.02)
    log.write(row(1))

    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as disk:
        disk.setattr(changes, "insert_verdict", full)
        disk.setattr(changes, "deliver_verdicts", full)
        log.write(row(2))
        assert log.state.why == "database or disk is full"
    wait_until(lambda: is_back(log))
    assert ids(log) == [row(1).id, row(2).id]
    log.close()
    assert list((tmp_path / "spool").iterdir()) == []


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_no_verdict_is_given(
    postgres: PostgresServer, start: Start, part: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verdict_log, "LOOKS_EVERY", 0.02)
    service = start(log=postgres.new_log(), replica="a")
    postgres.kill()
    with monkeypatch.context() as disk:
        disk.setattr(Spool, "append", full_disk)
        disk.setattr(Spool, "test", full_disk)
        refused = service.client.post(URL, files=part)
        assert refused.status_code == 503
        assert "the disk cannot keep verdicts: No space left" in refused.json()["error"]["message"]
        assert service.client.get("/readyz").status_code == 503
        assert any("Free space" in said for said in state_of(service)["notices"])
    # There is room again: it is ready before anybody sends a part, and the database is still away.
    wait_until(lambda: service.client.get("/readyz").status_code == 200, 20)
    assert service.client.post(URL, files=part).status_code == 200
    postgres.start()
    wait_until(lambda: state_of(service)["log"]["mode"] == "database", 20)
    assert service.client.get("/v1/verdicts").json()["total"] == 1


def state_of(service: RunningService) -> dict[str, Any]:
    return service.client.get("/v1/state").json()


def test_the_operator_sees_it(
    postgres: PostgresServer, start: Start, part: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verdict_log, "LOOKS_EVERY", 0.02)
    service = start(log=postgres.new_log(), station="press 3", replica="a")
    wait_until(lambda: bool(state_of(service)["services"]))
    first = service.client.post(URL, files=part).json()
    assert first["station"] == "press 3"
    assert state_of(service)["notices"] == []
    postgres.kill()
    second = service.client.post(URL, files={**part, "rgb": ("b.png", grey(0.3))})
    assert second.status_code == 200
    state = state_of(service)
    assert (state["log"]["mode"], state["log"]["waiting"]) == ("spool", 1)
    assert "1 verdict is on this service's disk" in state["notices"][0]
    ready = service.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["log"] == "spool"
    assert ready.json()["waiting"] == 1
    assert "chiasm_database_away 1.0" in service.client.get("/metrics").text
    assert "chiasm_verdicts_waiting 1.0" in service.client.get("/metrics").text
    assert service.client.get("/v1/verdicts").status_code == 503
    postgres.start()
    wait_until(lambda: state_of(service)["log"]["mode"] == "database", 20)
    assert state_of(service)["notices"] == []
    listed = service.client.get("/v1/verdicts?station=press 3").json()
    assert [entry["id"] for entry in listed["verdicts"]] == [second.json()["id"], first["id"]]
