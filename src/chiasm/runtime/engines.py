"""The compiled graphs of one model, and the threads that feed them; made when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from chiasm.errors import ChiasmError
from chiasm.runtime.engine import Engine, open_engine

T = TypeVar("T")

# Bytes. glibc takes the length of a freed block, up to 32 MiB, for what is not worth giving back.
_WORTH_KEEPING = 31 << 20


class Engines:
    """Compiles a graph once for calls and once for what is submitted; threads may share it.

    Args:
        path: of the graph.
        name: of the model, for messages.
        threads: processor threads.
        precision: of the graph.
        batch: fixed length of the first axis; None leaves it open.
    """

    def __init__(
        self, path: Path, *, name: str, threads: int, precision: str, batch: int | None = None
    ) -> None:
        self._path, self._name, self._threads = path, name, threads
        self._precision, self._batch = precision, batch
        self._compiled: dict[int, Engine] = {}
        self._line: Line | None = None
        self._lock = threading.Lock()
        self._closed = self._finished = False
        keep_freed_memory()

    def get(self, *, streaming: bool) -> Engine:
        """The graph for one call with all threads, or for as many side by side as threads."""
        streams = self._threads if streaming else 1
        with self._lock:
            if streams not in self._compiled:
                # What was submitted before the end may still come here, and is finished.
                self._refuse(self._finished)
                self._compiled[streams] = open_engine(
                    self._path,
                    threads=self._threads,
                    streams=streams,
                    precision=self._precision,
                    batch=self._batch,
                )
            return self._compiled[streams]

    def submit(self, job: Callable[[], Callable[[], T]]) -> Future[T]:
        """Do a job beside others: it prepares an input, and what it gives judges it.

        Raises ``ChiasmError`` after ``close``.
        """
        with self._lock:
            self._refuse(self._closed)
            if self._line is None:
                # More than streams, so that an input is always ready when the graph is free.
                ahead = self._threads + 2
                self._line = Line(preparing=max(1, self._threads // 2), judging=ahead, ahead=ahead)
            return self._line.submit(job)

    def close(self) -> None:
        """Finish what was submitted and take no more."""
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.close()
        with self._lock:
            self._finished = True
            self._compiled.clear()

    def _refuse(self, ended: bool) -> None:
        if ended:
            raise ChiasmError(f"{self._name} was closed and takes nothing more.")


def keep_freed_memory() -> None:
    """Have the allocator keep what a part needed for the next one.

    glibc gives back what is freed in portions of a part's arrays, and every part then pays for
    fresh pages again: a twelfth of its time. A larger block that comes and goes, untouched, tells
    it otherwise; allocators that do not learn so are not disturbed.
    """
    np.empty(_WORTH_KEEPING, np.uint8)


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
