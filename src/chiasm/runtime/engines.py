"""The compiled graphs of one model, and the threads that feed them; both made on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from chiasm.errors import ChiasmError
from chiasm.runtime.engine import Engine, open_engine, require_library

T = TypeVar("T")

# Bytes. glibc keeps freed memory up to the size of the largest freed block, at most 32 MiB.
_LARGEST_BLOCK = 31 << 20


class Engines:
    """Compiles a graph once for calls and once for submitted inputs; threads may share it.

    Args:
        path: of the graph.
        name: of the model, for messages.
        threads: processor threads.
        precision: of the graph.
        batch: fixed length of the first axis; None leaves it open.
        generated: see ``open_engine``.

    Raises ``ConfigurationError`` where the library of the graph is not installed: once, and not for
    every part.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        threads: int,
        precision: str,
        batch: int | None = None,
        generated: bool = True,
    ) -> None:
        require_library(path)
        self._path, self._name, self._threads = path, name, threads
        self._precision, self._batch, self._generated = precision, batch, generated
        self._compiled: dict[int, Engine] = {}
        self._executor: PipelinedExecutor | None = None
        self._lock = threading.Lock()
        self._closed = self._finished = False
        keep_freed_memory()

    def get(self, *, streaming: bool) -> Engine:
        """Return the graph for one call on all threads or, streaming, for one call per thread."""
        streams = self._threads if streaming else 1
        with self._lock:
            if streams not in self._compiled:
                # Jobs submitted before ``close`` may still come here, and are finished.
                self._refuse(self._finished)
                self._compiled[streams] = open_engine(
                    self._path,
                    threads=self._threads,
                    streams=streams,
                    precision=self._precision,
                    batch=self._batch,
                    generated=self._generated,
                )
            return self._compiled[streams]

    def submit(self, job: Callable[[], Callable[[], T]]) -> Future[T]:
        """Run a job of two steps beside others: it prepares an input and returns the second step.

        Raises ``ChiasmError`` after ``close``.
        """
        with self._lock:
            self._refuse(self._closed)
            if self._executor is None:
                # More than streams, so that an input is always ready when the graph is free.
                pending = self._threads + 2
                self._executor = PipelinedExecutor(
                    preparing=max(1, self._threads // 2), running=pending, pending=pending
                )
            return self._executor.submit(job)

    def close(self) -> None:
        """Finish the submitted jobs and accept no more."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()
        with self._lock:
            self._finished = True
            self._compiled.clear()

    def _refuse(self, ended: bool) -> None:
        if ended:
            raise ChiasmError(f"{self._name} was closed and accepts nothing more.")


def keep_freed_memory() -> None:
    """Have the allocator keep the memory of one part for the next one.

    glibc returns freed memory to the system in portions of a part's arrays, and every part then
    pays for fresh pages: a twelfth of its time. Freeing one larger, untouched block raises glibc's
    limit; other allocators are not affected.
    """
    np.empty(_LARGEST_BLOCK, np.uint8)


class PipelinedExecutor:
    """Runs jobs of two steps, with separate limits of how many run each step at a time.

    Preparation holds Python's interpreter for most of its time: more of it at a time would bring no
    part to the graph any sooner, and every thread would need memory for it.

    Args:
        preparing: first steps at a time.
        running: second steps at a time.
        pending: jobs between the start of the first step and the end of the second; later jobs
            wait before their first step.
    """

    def __init__(self, *, preparing: int, running: int, pending: int) -> None:
        self._preparing = ThreadPoolExecutor(preparing, thread_name_prefix="prepare")
        self._running = ThreadPoolExecutor(running, thread_name_prefix="run")
        self._room = threading.Semaphore(pending)

    def submit(self, job: Callable[[], Callable[[], T]]) -> Future[T]:
        """Run a job beside others: it prepares, and returns the second step.

        The future raises the errors of both steps.
        """
        future: Future[T] = Future()
        self._preparing.submit(self._prepare, job, future)
        return future

    def close(self) -> None:
        """Finish the submitted jobs and accept no more."""
        self._preparing.shutdown(wait=True)
        self._running.shutdown(wait=True)

    def _prepare(self, job: Callable[[], Callable[[], T]], future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self._room.acquire()
        try:
            self._running.submit(self._run, job(), future)
        except BaseException as error:
            self._room.release()
            future.set_exception(error)

    def _run(self, second_step: Callable[[], T], future: Future[T]) -> None:
        try:
            result = second_step()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            self._room.release()
