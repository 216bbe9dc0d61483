"""Two stations in a row: parts are prepared at one while earlier ones are judged at the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Line:
    """Does jobs of two steps, the first of few and the second of several at a time.

    Preparing needs Python's interpreter for most of its time: side by side, each part would take as
    long as all of them in turn, none would get to its graph any sooner, and every thread would keep
    memory for it.

    Args:
        preparing: first steps at a time.
        judging: second steps at a time.
        ahead: jobs between the beginning of the first step and the end of the second; those after
            them wait without having begun.
    """

    def __init__(self, *, preparing: int, judging: int, ahead: int) -> None:
        self._preparing = ThreadPoolExecutor(preparing, thread_name_prefix="prepare")
        self._judging = ThreadPoolExecutor(judging, thread_name_prefix="judge")
        self._room = threading.Semaphore(ahead)

    def submit(self, job: Callable[[], Callable[[], T]]) -> Future[T]:
        """Do a job beside others: it prepares, and what it gives judges.

        The future raises what either step raises.
        """
        promised: Future[T] = Future()
        self._preparing.submit(self._prepare, job, promised)
        return promised

    def close(self) -> None:
        """Finish what was submitted and take no more."""
        self._preparing.shutdown(wait=True)
        self._judging.shutdown(wait=True)

    def _prepare(self, job: Callable[[], Callable[[], T]], promised: Future[T]) -> None:
        if not promised.set_running_or_notify_cancel():
            return
        self._room.acquire()
        try:
            self._judging.submit(self._judge, job(), promised)
        except BaseException as error:
            self._room.release()
            promised.set_exception(error)

    def _judge(self, judge: Callable[[], T], promised: Future[T]) -> None:
        try:
            found = judge()
        except BaseException as error:
            promised.set_exception(error)
        else:
            promised.set_result(found)
        finally:
            self._room.release()
