"""Ranks that compute what a test asks for, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from chiasm.runs.workers import Worker
from chiasm.training.device import CPU
from chiasm.training.distributed import LOOPBACK, MeetingPlace, process_group
from chiasm.training.ranks import Rank

_made: list[MeetingPlace] = []
_joined = ExitStack()


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def make_place(count: int) -> int:
    _made.append(MeetingPlace(LOOPBACK, None, count))
    return _made[0].port


def join(number: int, count: int, port: int) -> None:
    place = _made[0] if _made else MeetingPlace(LOOPBACK, port, count)
    _joined.enter_context(process_group(Rank(number, count), CPU, place, one_machine=True))


class RankGroup:
    """Workers that are the ranks of one process group."""

    def __init__(self, count: int) -> None:
        self.workers = [Worker(call, threads=1) for _ in range(count)]

    def join(self) -> None:
        count = len(self.workers)
        self.workers[0].send(make_place, count)
        port = self.workers[0].receive()
        for number, worker in enumerate(self.workers):
            worker.send(join, number, count, port)
        for worker in self.workers:
            worker.receive()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call a function of module level on all ranks, and return their answers."""
        for worker in self.workers:
            worker.send(function, *arguments)
        return [worker.receive() for worker in self.workers]

    def close(self) -> None:
        for worker in self.workers:
            worker.close(kill=True)


@contextmanager
def rank_group(count: int) -> Iterator[RankGroup]:
    group = RankGroup(count)
    try:
        group.join()
        yield group
    finally:
        group.close()
