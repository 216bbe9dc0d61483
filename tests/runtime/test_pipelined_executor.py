"""Jobs of two steps: how many run at a time, how many are pending, errors, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chiasm.runtime.engines import PipelinedExecutor


@pytest.fixture
def executor() -> Iterator[PipelinedExecutor]:
    executor = PipelinedExecutor(preparing=1, running=3, pending=3)
    yield executor
    executor.close()


def test_one_is_prepared_at_a_time_while_others_run(executor: PipelinedExecutor):
    two_prepare, two_run = threading.Barrier(2), threading.Barrier(2)

    def job(number: int) -> Callable[[], int]:
        with pytest.raises(threading.BrokenBarrierError):
            two_prepare.wait(0.1)

        def run() -> int:
            two_run.wait(20)
            return 10 * number

        return run

    futures = [executor.submit(lambda n=n: job(n)) for n in range(6)]
    assert [future.result(20) for future in futures] == [0, 10, 20, 30, 40, 50]


def test_no_more_jobs_are_pending_than_the_limit(executor: PipelinedExecutor):
    prepared: list[int] = []
    started = threading.Semaphore(0)
    may_end = threading.Event()

    def job(number: int) -> Callable[[], bool]:
        prepared.append(number)
        started.release()
        return lambda: may_end.wait(20)

    futures = [executor.submit(lambda n=n: job(n)) for n in range(8)]
    assert all(started.acquire(timeout=20) for _ in range(3))
    assert not started.acquire(timeout=0.2)
    assert prepared == [0, 1, 2]
    assert futures[-1].cancel()
    may_end.set()
    assert all(future.result(20) for future in futures[:-1])
    assert prepared == list(range(7))


def test_errors_of_either_step_arrive_and_leave_room_for_others(executor: PipelinedExecutor):
    def broken() -> Callable[[], int]:
        raise ValueError("prepared badly")

    def half_broken() -> Callable[[], int]:
        return lambda: 1 // 0

    for _ in range(5):  # more than may be pending
        with pytest.raises(ValueError, match="badly"):
            executor.submit(broken).result(20)
        with pytest.raises(ZeroDivisionError):
            executor.submit(half_broken).result(20)
    assert executor.submit(lambda: lambda: 7).result(20) == 7


def test_closing_finishes_the_submitted_jobs():
    executor = PipelinedExecutor(preparing=1, running=1, pending=2)
    may_end = threading.Event()

    def job() -> Callable[[], bool]:
        return lambda: may_end.wait(20)

    futures = [executor.submit(job) for _ in range(6)]
    with ThreadPoolExecutor(1) as other:
        closing = other.submit(executor.close)
        assert not any(future.done() for future in futures)
        may_end.set()
        closing.result(20)
    assert [future.result(0) for future in futures] == [True] * 6
    with pytest.raises(RuntimeError):
        executor.submit(job)
