"""The processes that compute for a run: this one, several of this machine, or a Ray cluster's.

What a run computes many times independently (finalists of a search, architectures of a generation,
blocks of stored features, members) is given to its crew.
"""

from __future__ import annotations

import os
import pickle
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runs.ray_cluster import error_of_task, ray_cluster
from chiasm.runs.shard_worker import versions
from chiasm.runs.workers import GUARD, Worker, WorkerLost, first_answers, threads_each

Item = TypeVar("Item")
Result = TypeVar("Result")

LOSSES: Final = 2  # workers that one item may cost
_END: Final[Any] = object()


@dataclass(frozen=True, slots=True)
class Request:
    """What a crew was gathered from, for what its processes do together; see ``gather``."""

    workers: int | None = 1
    ray: str | None = None
    shared: tuple[Path, ...] = ()


class Crew(ABC):
    """Processes that compute independent results.

    Attributes:
        size: results that are computed at a time.
        request: what it was gathered from.
    """

    size: int = 1
    request: Request = Request()

    def rest(self) -> None:  # noqa: B027  # most have none
        """End processes that wait, so that others have their memory; they are started again."""

    @abstractmethod
    def compute(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[tuple[Item, Result], None, None]:
        """Yield each item with its result when it is there, in no order.

        Args:
            function: of an item. Several processes get it pickled, once each; what it writes must
                be the same when a lost process makes an item be computed again.
            items: taken one by one, each when a process is free.

        Raises:
            ArtifactError: an item ends every process that computes it.
            Exception: of the function; what is at work is then given up.
        """

    def in_order(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[tuple[Item, Result], None, None]:
        """Yield each item with its result, in the items' order; see ``compute``."""
        ready: dict[int, tuple[Item, Result]] = {}
        following = 0
        with closing(self.compute(_Numbered(function), zip(count(), items))) as computed:
            for (number, item), result in computed:
                ready[number] = item, result
                while following in ready:
                    yield ready.pop(following)
                    following += 1


class _Alone(Crew):
    def compute(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[tuple[Item, Result], None, None]:
        for item in items:
            yield item, function(item)


ALONE: Final[Crew] = _Alone()  # this process


@contextmanager
def gather(
    workers: int | None = None,
    ray: str | None = None,
    *,
    device: str = "cpu",
    shared: Sequence[Path] = (),
    module: str = __name__,
) -> Iterator[Crew]:
    """Yield a crew, whose processes end with the context.

    Args:
        workers: processes. None is one on this machine, and as many as a cluster has processors, or
            graphics cards.
        ray: address of a Ray cluster, see ``ray_cluster``; None stays on this machine.
        device: that computes, see ``find_device``. The processes share out the CUDA GPUs of this
            machine where it names none of them; on a cluster each has one.
        shared: paths that the machines of a cluster must see, for example the run's folder.
        module: which the processes of this machine import while the caller goes on.

    Raises:
        ConfigurationError: there are fewer workers than one, or the cluster cannot be used.
    """
    from chiasm.training.device import gpus_of  # PyTorch, which a process need not have loaded

    gpus = gpus_of(device)
    if workers is not None and workers < 1:
        raise ConfigurationError(f"{workers} workers were asked for; one at least is needed.")
    if ray is not None:
        with ray_cluster(ray, cpus=workers) as connected:
            cluster = _RayCrew(connected, workers, gpu=gpus > 0, shared=shared)
            cluster.request = Request(workers, ray, tuple(shared))
            yield cluster
    elif workers is None or workers == 1:
        yield ALONE
    else:
        crew = _LocalCrew(workers, gpus, module)
        crew.request = Request(workers, None, tuple(shared))
        try:
            yield crew
        finally:
            crew.rest()


class _LocalCrew(Crew):
    """Processes of this machine; they stay for the next function."""

    def __init__(self, workers: int, gpus: int, module: str) -> None:
        self.size = workers
        self._gpus = gpus
        self._module = module
        self._started = 0
        self._known: dict[Worker, str] = {}  # the function that a process has
        self._idle = [self._start() for _ in range(workers)]

    def compute(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[tuple[Item, Result], None, None]:
        key, content = _packed(function)
        tasks = _Tasks(items)
        at_work: dict[Connection, tuple[Worker, _Task]] = {}
        try:
            while True:
                while len(at_work) < self.size and (task := tasks.take()) is not None:
                    worker = self._idle.pop() if self._idle else self._start()
                    if worker not in self._known:
                        _begun(worker)
                    new = self._known.get(worker) != key
                    worker.send(key, content if new else None, task.item)
                    self._known[worker] = key
                    at_work[worker.connection] = worker, task
                if not at_work:
                    return
                for worker, task in first_answers(at_work):
                    del at_work[worker.connection]
                    try:
                        answer = worker.receive()
                    except WorkerLost as lost:
                        worker.close()
                        tasks.put_back(task, str(lost))
                        continue
                    except BaseException:
                        worker.close(kill=True)
                        raise
                    self._idle.append(worker)
                    yield task.item, answer
        finally:
            for worker, _ in at_work.values():
                worker.close(kill=True)

    def _start(self) -> Worker:
        environment = {}
        if self._gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(self._started % self._gpus)
        self._started += 1
        worker = Worker(_call, threads=threads_each(self.size), environment=environment)
        worker.send(*_packed(_import), self._module)
        return worker

    def rest(self) -> None:
        while self._idle:
            worker = self._idle.pop()
            worker.close(kill=worker not in self._known)


class _RayCrew(Crew):
    """Tasks of a Ray cluster."""

    def __init__(self, ray: Any, workers: int | None, *, gpu: bool, shared: Sequence[Path]) -> None:
        self._ray = ray
        resource = "GPU" if gpu else "CPU"
        there = int(ray.cluster_resources().get(resource, 0))
        if there < 1:
            raise ConfigurationError(
                f"The Ray cluster has no {resource}, and the run computes on one. Give --device "
                "cpu, or start the machines of the cluster with what they have."
            )
        self.size = workers or there
        self._task = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=0)(_call_on_cluster)
        self._place = _Place(str(Path.cwd()), tuple(map(str, shared)), versions())

    def compute(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[tuple[Item, Result], None, None]:
        key, content = _packed(function)
        ray, stored = self._ray, self._ray.put(content)
        tasks = _Tasks(items)
        running: dict[Any, _Task] = {}
        try:
            while True:
                while len(running) < self.size and (task := tasks.take()) is not None:
                    running[self._task.remote(self._place, key, stored, task.item)] = task
                if not running:
                    return
                ended, _ = ray.wait(list(running), num_returns=1)
                for reference in ended:
                    task = running.pop(reference)
                    try:
                        answer = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise error_of_task(error) from error
                    except ray.exceptions.RayError as error:
                        tasks.put_back(task, f"Ray: {type(error).__name__}.")
                        continue
                    yield task.item, answer
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _begun(worker: Worker) -> None:
    """Wait until a process has imported its module."""
    try:
        worker.receive()
    except WorkerLost as lost:
        worker.close()
        raise ArtifactError(f"{lost} It had not begun. {GUARD}") from lost


@dataclass(slots=True)
class _Task:
    item: Any
    losses: int = 0


class _Tasks:
    """Items that wait, and first those whose process was lost."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._waiting = iter(items)
        self._again: list[_Task] = []

    def take(self) -> _Task | None:
        if self._again:
            return self._again.pop()
        item = next(self._waiting, _END)
        return None if item is _END else _Task(item)

    def put_back(self, task: _Task, end: str) -> None:
        """Have a task done again; ``ArtifactError`` if it has cost too many processes."""
        task.losses += 1
        if task.losses > LOSSES:
            raise ArtifactError(
                f"{task.losses} worker processes were lost at the same work. {end} Is there enough "
                f"memory? Give fewer --workers. {GUARD}"
            )
        self._again.append(task)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A function of numbered items."""

    function: Callable[[Any], Any]

    def __call__(self, numbered: tuple[int, Any]) -> Any:
        return self.function(numbered[1])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the process that asks stands, and what the others must see and have as it does."""

    directory: str
    shared: tuple[str, ...]
    versions: Mapping[str, str]

    def enter(self) -> None:
        """Stand there; ``ConfigurationError`` where something differs."""
        host = socket.gethostname()
        for name, version in versions().items():
            if self.versions[name] != version:
                raise ConfigurationError(
                    f"The worker on {host} has {name} {version}, and the machine that asks "
                    f"{self.versions[name]}: results could differ. Install the same version on "
                    "both."
                )
        if Path(self.directory).is_dir():
            os.chdir(self.directory)
        for path in self.shared:
            if not Path(path).exists():
                raise ConfigurationError(
                    f"The worker on {host} does not see {path}. Data and run must lie on folders "
                    "that all machines of the cluster see under the same path."
                )


def _import(module: str) -> None:
    import_module(module)


def _packed(function: Callable[..., Any]) -> tuple[str, bytes]:
    """Return a function as bytes, once for all processes, and a name for it."""
    return uuid.uuid4().hex, pickle.dumps(function)


# Of this process: name and function of the call before.
_called: tuple[str, Callable[[Any], Any]] | None = None


def _call(key: str, content: bytes | None, item: Any) -> Any:
    """Call the function of the bytes, or that of the call before; for ``Worker``."""
    global _called
    if _called is None or _called[0] != key:
        assert content is not None
        _called = key, pickle.loads(content)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # lines of several would mix
        return _called[1](item)


def _call_on_cluster(place: _Place, key: str, content: bytes, item: Any) -> Any:
    place.enter()
    return _call(key, content, item)
