"""Verdicts on disk: they survive a kill and a full disk, and are handed over in order."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chiasm.errors import ConfigurationError
from chiasm.files.spool import AT_ONCE, Spool, line_of

Row = dict[str, Any]


def rows_of(*numbers: int) -> list[Row]:
    return [{"id": f"{number:032x}", "time": number / 7, "error": "a\nb"} for number in numbers]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool", owner="left:8000")
    yield opened
    opened.close()


def delivered(spool: Spool, *, left: bool = False) -> list[Row]:
    found: list[Row] = []
    (spool.deliver_left if left else spool.deliver)(found.extend)
    return found


def left_file(spool: Spool, content: bytes) -> Path:
    """A file as a killed service leaves it: nobody holds its lock."""
    path = spool.folder / "killed-0.jsonl"
    path.write_bytes(content)
    return path


def test_rows_come_back_in_order_and_once(spool: Spool):
    first, second = rows_of(*range(AT_ONCE + 3)), rows_of(9999)
    spool.append(first)
    batches: list[int] = []
    spool.deliver(lambda rows: batches.append(len(rows)))
    assert batches == [AT_ONCE, 3]
    spool.append(second)
    assert spool.waiting == 1
    assert not spool.clear()  # one is not delivered
    assert delivered(spool) == second
    assert spool.waiting == 0
    assert spool.clear()
    spool.append(first)
    assert delivered(spool) == first


def test_rows_whose_delivery_failed_are_delivered_later(spool: Spool):
    spool.append(rows_of(1, 2))

    def fail(rows: Sequence[Row]) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.deliver(fail)
    assert spool.waiting == 2
    assert delivered(spool) == rows_of(1, 2)


def _append_and_die(folder: Path) -> None:
    Spool(folder, owner="dies").append(rows_of(1, 2, 3))
    os.kill(os.getpid(), 9)


def test_another_service_delivers_what_a_killed_one_left(spool: Spool):
    process = multiprocessing.get_context("fork").Process(
        target=_append_and_die, args=(spool.folder,)
    )
    process.start()
    process.join(20)
    assert process.exitcode == -9
    assert spool.count_left() == spool.waiting == 3
    assert delivered(spool, left=True) == rows_of(1, 2, 3)
    assert spool.waiting == 0
    assert delivered(spool, left=True) == []


def test_the_file_of_a_service_that_is_alive_is_left_alone(spool: Spool):
    other = Spool(spool.folder, owner="left:8000")
    other.append(rows_of(1))
    assert spool.count_left() == 0
    assert delivered(spool, left=True) == []
    other.close()  # in order, with a verdict that waits
    assert delivered(spool, left=True) == rows_of(1)


def test_a_service_that_ends_with_nothing_to_deliver_leaves_no_file(tmp_path: Path):
    spool = Spool(tmp_path, owner="x")
    spool.append(rows_of(1))
    delivered(spool)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_a_kill_cut_off_was_not_answered_and_does_not_count(spool: Spool):
    whole, cut = (line_of(row) for row in rows_of(1, 2))
    left_file(spool, whole + cut[:-9])
    assert delivered(spool, left=True) == rows_of(1)
    assert not (spool.folder / "set-aside.txt").exists()


def test_a_damaged_line_is_set_aside_and_the_others_are_delivered(spool: Spool):
    lines = [line_of(row) for row in rows_of(1, 2, 3)]
    damaged = lines[1].replace(b"error", b"errer")
    left_file(spool, lines[0] + damaged + b"no line\n" + lines[2])
    assert delivered(spool, left=True) == rows_of(1, 3)
    assert b"damaged on the disk\t" + damaged in (spool.folder / "set-aside.txt").read_bytes()
    assert not list(spool.folder.glob("killed*"))


def test_after_a_full_disk_the_file_has_whole_lines(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    spool.append(rows_of(1))
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as full:
        full.setattr(os, "write", half)
        full.setattr(os, "ftruncate", lambda *_: None)  # nor can it be cut off at once
        with pytest.raises(OSError, match="No space"):
            spool.append(rows_of(2))
    spool.append(rows_of(3))
    assert delivered(spool) == rows_of(1, 3)


def test_a_test_of_the_disk_leaves_nothing(spool: Spool):
    spool.append(rows_of(1))
    spool.test()
    spool.append(rows_of(2))
    assert delivered(spool) == rows_of(1, 2)


def test_a_deleted_file_is_written_again_with_what_waits(spool: Spool):
    spool.append(rows_of(1, 2))
    shutil.rmtree(spool.folder)
    spool.append(rows_of(3))
    assert delivered(spool) == rows_of(1, 2, 3)
    shutil.rmtree(spool.folder)
    spool.append(rows_of(4))
    other = Spool(spool.folder, owner="next")
    assert delivered(other, left=True) == []  # its owner is alive
    other.close()
    assert delivered(spool) == rows_of(4) and spool.clear()


def test_what_was_left_counts_from_the_start(spool: Spool):
    left_file(spool, b"".join(map(line_of, rows_of(1, 2))))
    other = Spool(spool.folder, owner="next")
    assert other.waiting == 2
    other.close()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--spool"):
        Spool(tmp_path / "file" / "spool", owner="x")
