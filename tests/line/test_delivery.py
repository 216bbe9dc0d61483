"""Records wait on the disk, and arrive in order, each at least once, whatever happens."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from chiasm.errors import ConfigurationError
from chiasm.files.spool import Spool
from chiasm.line.delivery import Delivery, OutletSettings
from chiasm.line.outlets.outlet import OutletAwayError, RefusedRecordError
from line_records import numbers, record, wait_until


class Receiver:
    """An outlet that is away while ``away``, and refuses or fails at some numbers."""

    beat_s: float | None = None
    where: str = "the plant"

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.away = False
        self.refuses: set[int] = set()
        self.fails: set[int] = set()
        self.after: dict[int, bool] = {}  # away after the record arrived, so that nobody knows
        self.tries = 0

    def check(self) -> None:
        self.tries += 1
        if self.away:
            raise OutletAwayError("nobody answers.")

    def send(self, row: Any) -> None:
        number = int(row["id"], 16)
        if number in self.refuses:
            raise RefusedRecordError("not wanted")
        if number in self.fails:
            raise KeyError("a bug")
        self.got.append(dict(row))
        if self.after.pop(number, False):
            raise OutletAwayError("the connection broke.")

    def close(self) -> None: ...


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def deliver(receiver: Receiver, folder: Path, lines: list[str], **options: Any) -> Delivery:
    settings = OutletSettings(receiver, retry_s=0.01, **options)
    return Delivery({"plc": settings}, folder, tell=lines.append)


def test_what_is_put_arrives_as_it_was(receiver: Receiver, tmp_path: Path):
    delivery = deliver(receiver, tmp_path, [])
    sent = [record(number) for number in range(5)]
    for row in sent:
        delivery.put(row)
    delivery.close()
    assert receiver.got == sent
    assert not list((tmp_path / "plc").iterdir())


def test_an_outlet_that_is_away_gets_all_in_order_when_it_is_back(
    receiver: Receiver, tmp_path: Path
):
    lines: list[str] = []
    receiver.away = True
    delivery = deliver(receiver, tmp_path, lines)
    for number in range(5):
        delivery.put(record(number))
    wait_until(lambda: receiver.tries > 3)
    assert delivery.waiting == {"plc": 5}
    assert "nobody answers" in delivery.notices[0]
    receiver.away = False
    wait_until(lambda: delivery.waiting == {"plc": 0})
    delivery.close()
    assert numbers(receiver.got) == [0, 1, 2, 3, 4]
    assert delivery.notices == ()
    assert [" is away (" in line for line in lines] == [True, False]
    assert "is back" in lines[1]


def test_what_a_killed_process_left_arrives_first(receiver: Receiver, tmp_path: Path):
    receiver.away = True
    first = deliver(receiver, tmp_path, [])
    first.put(record(1))
    first.put(record(2))
    first.close(0.0)
    assert Receiver().got == receiver.got == []
    receiver.away = False
    second = deliver(receiver, tmp_path, [])
    second.put(record(3))
    second.close()
    assert numbers(receiver.got) == [1, 2, 3]


def test_a_backlog_is_not_begun_again_when_the_outlet_fails_in_between(
    receiver: Receiver, tmp_path: Path
):
    left = Spool(tmp_path / "plc", owner="killed")
    left.append([record(number) for number in range(6)])
    left.close()
    receiver.after = {2: True, 4: True}
    delivery = deliver(receiver, tmp_path, [])
    wait_until(lambda: delivery.waiting == {"plc": 0})
    delivery.close()
    # Only the two of which nobody knows whether they arrived come twice.
    assert numbers(receiver.got) == [0, 1, 2, 2, 3, 4, 4, 5]


def test_a_record_that_is_refused_does_not_hold_up_the_others(receiver: Receiver, tmp_path: Path):
    lines: list[str] = []
    receiver.refuses, receiver.fails = {1}, {3}
    delivery = deliver(receiver, tmp_path, lines)
    for number in range(5):
        delivery.put(record(number))
    wait_until(lambda: delivery.waiting == {"plc": 0})
    delivery.close()
    assert numbers(receiver.got) == [0, 2, 4]
    kept = (tmp_path / "plc" / "set-aside.txt").read_text()
    assert f"{1:032x}" in kept and f"{3:032x}" in kept and "not wanted" in kept
    assert any("not wanted" in line for line in lines)


def test_old_verdicts_are_not_sent_where_they_would_be_taken_for_new(
    receiver: Receiver, tmp_path: Path
):
    lines: list[str] = []
    delivery = deliver(receiver, tmp_path, lines, max_age_s=60.0)
    delivery.put(record(1, time=1_700_000_000.0))
    delivery.put(record(2))
    delivery.close()
    assert numbers(receiver.got) == [2]
    assert "older than 60 s" in (tmp_path / "plc" / "set-aside.txt").read_text()
    assert "older than 60 s" in lines[0] and "part_1" in lines[0]


def test_an_outlet_gets_the_decisions_that_it_wants(receiver: Receiver, tmp_path: Path):
    delivery = deliver(receiver, tmp_path, [], only=("defective", "error"))
    for number, decision in enumerate(("good", "defective", "error", "undecided")):
        delivery.put(record(number, decision))
    delivery.close()
    assert numbers(receiver.got) == [1, 2]


def test_a_full_disk_is_raised_and_no_outlet_gets_a_record_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    receivers = {"one": Receiver(), "two": Receiver()}
    settings = {name: OutletSettings(receiver) for name, receiver in receivers.items()}
    delivery = Delivery(settings, tmp_path)
    with monkeypatch.context() as full:

        def refuse(rows: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(delivery.channels["two"]._spool, "append", refuse)
        with pytest.raises(OSError, match="No space"):
            delivery.put(record(1))
    delivery.put(record(1))
    delivery.put(record(2))
    delivery.close()
    assert [numbers(receiver.got) for receiver in receivers.values()] == [[1, 2], [1, 2]]


def test_a_folder_that_cannot_be_written_is_refused(receiver: Receiver, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--out"):
        deliver(receiver, tmp_path / "file", [])


def test_the_state_of_an_outlet_is_said(receiver: Receiver, tmp_path: Path):
    receiver.away, receiver.refuses = True, {3}
    delivery = deliver(receiver, tmp_path, [], kind="modbus")
    delivery.put(record(1))
    wait_until(lambda: delivery.states[0].state == "failed")
    (away,) = delivery.states
    assert (away.name, away.kind, away.where) == ("plc", "modbus", "the plant")
    assert (away.waiting, away.sent, away.last_sent, away.aside) == (1, 0, None, 0)
    assert away.why == "nobody answers"
    receiver.away = False
    wait_until(lambda: delivery.states[0].state == "sent")
    (back,) = delivery.states
    assert (back.waiting, back.sent, back.why) == (0, 1, "") and back.last_sent is not None
    delivery.put(record(3))
    wait_until(lambda: delivery.states[0].aside == 1)
    assert "not wanted" in delivery.states[0].why
    delivery.close()
    again = deliver(receiver, tmp_path, [])
    assert (again.states[0].state, again.states[0].aside) == ("ready", 1)  # counted in the file
    again.close()
