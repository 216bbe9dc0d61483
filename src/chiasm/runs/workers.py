"""Worker processes of this machine: their share of the cores, and how they are started and lost."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import MappingProxyType
from typing import Any, TypeVar

import cv2

from chiasm.errors import ChiasmError

T = TypeVar("T")
# Read by the libraries of linear algebra when they are loaded, so before a worker imports them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# Each worker imports the script that asks for it.
GUARD = 'A script that asks for workers needs the line: if __name__ == "__main__":'


class WorkerLost(ChiasmError):
    """A worker process that ended without an answer: it was killed, or crashed."""


def threads_each(jobs: int) -> int:
    """Return the processor threads of each of ``jobs`` parallel processes.

    Never more than ``OMP_NUM_THREADS``, if it is set: threads that wait for each other on busy
    cores take five times as long.
    """
    variable = os.environ.get("OMP_NUM_THREADS", "")
    cores = os.cpu_count() or 1
    limit = min(cores, int(variable)) if variable.isdigit() and int(variable) > 0 else cores
    return max(1, min(cores // jobs, limit))


class Worker:
    """A fresh process of this machine that calls one function again and again.

    The process is spawned, so that it holds nothing of this one, and it ends with it: what it waits
    for breaks off when this process is gone. Ctrl-C is left to this process.

    Args:
        function: of module level; called in the process with the arguments of each ``send``.
        threads: processor threads of the process.
        environment: variables of the process, besides this one's.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        threads: int,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, function, threads), daemon=True, name="chiasm worker"
        )
        with _environment({**dict.fromkeys(_THREAD_VARIABLES, str(threads)), **environment}):
            self.process.start()
        theirs.close()  # a pipe whose other end is this process's own never breaks off

    def send(self, *arguments: Any) -> None:
        """Have the function called; ``receive`` has its answer."""
        with suppress(BrokenPipeError, ConnectionResetError):  # ``receive`` finds that it ended
            self.connection.send(arguments)

    def receive(self) -> Any:
        """Return the function's answer.

        Raises:
            WorkerLost: the process ended without one.
            Exception: what the function raised.
        """
        try:
            raised, answer = self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise WorkerLost(f"A worker process ended with {self._end()}.") from error
        if raised:
            raise answer
        return answer

    def close(self, *, kill: bool = False) -> None:
        """End the process, after what it is doing or, with ``kill``, at once."""
        self.connection.close()
        if kill:
            self.process.kill()
        self.process.join()
        self.process.close()

    def _end(self) -> str:
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def first_answers(workers: dict[Connection, T], *, seconds: float | None = None) -> list[T]:
    """Wait for one or more workers to answer or to end, and return what stands for these.

    Args:
        workers: by their connections.
        seconds: after which it returns what there is, maybe nothing; None waits for ever.
    """
    ended = wait(list(workers), timeout=seconds)
    return [workers[place] for place in ended if isinstance(place, Connection)]


def call_apart(function: Callable[..., T], *arguments: Any, threads: int) -> T:
    """Call a function in a fresh process, whose memory is gone with it.

    Raises:
        WorkerLost: the process ended without an answer.
        Exception: what the function raised.
    """
    worker = Worker(function, threads=threads)
    try:
        worker.send(*arguments)
        answer: T = worker.receive()
    except BaseException:
        worker.close(kill=True)
        raise
    worker.close()
    return answer


def limit_threads(threads: int) -> None:
    """Limit the threads of OpenCV in this process, which heeds no variable."""
    cv2.setNumThreads(threads)


def _serve(connection: Connection, function: Callable[..., Any], threads: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads(threads)
    while True:
        try:
            arguments = connection.recv()
        except (EOFError, OSError):
            return  # the other process has closed, or is gone
        try:
            answer = (False, function(*arguments))
        except Exception as error:
            if not isinstance(error, (ChiasmError, OSError)):
                error.add_note(traceback.format_exc())  # lost otherwise on its way
            answer = (True, error)
        connection.send(answer)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
