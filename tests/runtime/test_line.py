"""Two steps in a row: how many at a time, how far ahead, errors, and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chiasm.runtime.engines import Line


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(preparing=1, judging=3, ahead=3)
    yield made
    made.close()


def test_one_is_prepared_at_a_time_while_others_are_judged(line: Line):
    two_are_judged = threading.Barrier(2)
    at_desk: list[int] = []
    seen: list[int] = []

    def job(number: int) -> Callable[[], int]:
        at_desk.append(number)
        seen.append(len(at_desk))
        time.sleep(0.02)
        at_desk.pop()

        def judge() -> int:
            two_are_judged.wait(20)
            return 10 * number

        return judge

    futures = [line.submit(lambda n=n: job(n)) for n in range(6)]
    assert [future.result(20) for future in futures] == [0, 10, 20, 30, 40, 50]
    assert seen == [1] * 6


def test_no_more_are_prepared_ahead_than_was_said(line: Line):
    prepared: list[int] = []
    may_end = threading.Event()

    def job(number: int) -> Callable[[], bool]:
        prepared.append(number)
        return lambda: may_end.wait(20)

    futures = [line.submit(lambda n=n: job(n)) for n in range(8)]
    until = time.monotonic() + 20
    while len(prepared) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    assert prepared == [0, 1, 2]
    assert futures[-1].cancel()
    may_end.set()
    assert all(future.result(20) for future in futures[:-1])
    assert prepared == list(range(7))


def test_errors_of_either_step_arrive_and_leave_room_for_others(line: Line):
    def broken() -> Callable[[], int]:
        raise ValueError("prepared badly")

    def half_broken() -> Callable[[], int]:
        return lambda: 1 // 0

    for _ in range(5):  # more than have room
        with pytest.raises(ValueError, match="badly"):
            line.submit(broken).result(20)
        with pytest.raises(ZeroDivisionError):
            line.submit(half_broken).result(20)
    assert line.submit(lambda: lambda: 7).result(20) == 7


def test_closing_finishes_what_was_submitted():
    line = Line(preparing=1, judging=1, ahead=2)

    def job() -> Callable[[], float]:
        return lambda: time.sleep(0.02) or 1.0

    futures = [line.submit(job) for _ in range(6)]
    line.close()
    assert [future.result(0) for future in futures] == [1.0] * 6
    with pytest.raises(RuntimeError):
        line.submit(job)
