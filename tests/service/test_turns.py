"""How many requests are worked on at a time: bursts, no end of requests, and a pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from foretold import Start, wait_until

from chiasm.service.admission import Turns

URL = "/v1/models/gland/predict"


class Work:
    """Requests that work until they are told to end, on a clock that is set by hand."""

    def __init__(self, usual: int) -> None:
        self.now = 0.0
        self.turns = Turns(usual, seconds=1.0, clock=lambda: self.now)
        self.started: list[threading.Event] = []
        self.pool = ThreadPoolExecutor(8)

    def ask(self) -> Future[None]:
        return self.pool.submit(self.turns.taken, self._work)

    def end_one(self) -> None:
        self.started.pop(0).set()

    def stay(self, number: int) -> None:
        """Wait until so many work, and see that no more begin."""
        wait_until(lambda: len(self.started) == number)
        time.sleep(0.2)
        assert len(self.started) == number

    def _work(self) -> None:
        end = threading.Event()
        self.started.append(end)
        assert end.wait(20)


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work(2)
    yield made
    made.now += 1000.0
    waiting = threading.Event()

    def release() -> None:
        while not waiting.wait(0.01):
            while made.started:
                made.end_one()

    releasing = threading.Thread(target=release)
    releasing.start()
    made.pool.shutdown(wait=True)
    waiting.set()
    releasing.join()


def test_of_a_burst_the_usual_number_works(work: Work):
    sent = [work.ask() for _ in range(3)]
    work.stay(2)
    work.end_one()
    work.stay(2)
    assert sum(one.done() for one in sent) == 1


def test_one_more_works_where_there_is_no_end(work: Work):
    for _ in range(2):
        work.ask()
    wait_until(lambda: len(work.started) == 2)
    work.now += 3.0  # full for all of it
    work.ask()
    wait_until(lambda: len(work.started) == 3)
    fourth = work.ask()
    work.stay(3)
    work.end_one()
    work.stay(3)
    assert not fourth.done()


def test_after_a_pause_the_usual_number_works_again(work: Work):
    sent = [work.ask() for _ in range(2)]
    wait_until(lambda: len(work.started) == 2)
    work.now += 3.0
    while work.started:
        work.end_one()
    assert [one.result(20) for one in sent] == [None, None]
    work.now += 1.0  # idle: a third of the average is left
    for _ in range(3):
        work.ask()
    work.stay(2)


def test_whoever_fails_gives_its_turn_back():
    turns = Turns(1)

    def fails() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            turns.taken(fails)
    assert turns.taken(lambda: 7) == 7


@pytest.mark.parametrize(("threads", "room"), [(1, 1), (2, 1), (4, 2)])
def test_few_are_prepared_at_a_time_and_others_are_judged_meanwhile(
    start: Start, part, monkeypatch, threads: int, room: int
):
    bench = start(threads=threads)
    model = bench.loaded[0]
    lock = threading.Lock()
    at_desk: list[int] = []
    seen: list[int] = []
    two_are_judged = threading.Barrier(2)

    def prepared(*views: object, **more: Any) -> Callable[[], Any]:
        with lock:
            at_desk.append(1)
            seen.append(len(at_desk))
        time.sleep(0.1)
        with lock:
            at_desk.pop()

        def judged() -> Any:
            two_are_judged.wait(20)
            return model(*views, **more)

        return judged

    monkeypatch.setattr(model, "prepared", prepared)
    with ThreadPoolExecutor(6) as clients:
        sent = [clients.submit(bench.client.post, URL, files=part) for _ in range(6)]
        assert [one.result().status_code for one in sent] == [200] * 6
    assert max(seen) == room
