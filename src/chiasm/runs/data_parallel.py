"""One network trained in several processes, of this machine or of a Ray cluster."""

from __future__ import annotations

import hashlib
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch.utils.data import DataLoader

from chiasm.errors import ChiasmError, ConfigurationError
from chiasm.runs.console import say
from chiasm.runs.crew import Crew
from chiasm.runs.ray_cluster import error_of_task, processors_each, ray_cluster, ray_resources
from chiasm.runs.training_rank import (
    RankActor,
    RankTask,
    Trained,
    random_states,
    serve_rank,
    set_random_states,
    training_versions,
)
from chiasm.runs.workers import GUARD, Worker, WorkerLost, first_answers, threads_each
from chiasm.training.device import device_count, device_of, find_device
from chiasm.training.ranks import Rank
from chiasm.training.shared_batches import rank_loader
from chiasm.training.trainer import LAST, Budget, fit, restore

GRACE = 5.0  # seconds for other ranks to say what was wrong, after a first one
POLL = 2.0  # seconds between two looks at the progress of a cluster
TASK = "task.pickle"
# PyTorch writes to standard error what it advises authors of training loops.
_QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}


def is_several(crew: Crew) -> bool:
    """Return whether a crew is more than this process."""
    return crew.request.ray is not None or crew.request.workers not in (None, 1)


def check_device(crew: Crew, name: str) -> None:
    """Refuse a device that the processes of a crew cannot train on together, before a search.

    Raises:
        ConfigurationError: with what to give instead.
    """
    if not is_several(crew):
        return
    if ":" in name:
        raise ConfigurationError(
            f"device={name} names one GPU, and each worker takes one of its own. Give device=cuda; "
            "CUDA_VISIBLE_DEVICES says which GPUs may be taken."
        )
    if name == "mps":
        raise ConfigurationError(
            "Workers on a GPU of Apple cannot exchange gradients. Give device=cpu, or leave out "
            "--workers and --ray."
        )
    if crew.request.ray is None and find_device(name).type == "cuda":
        _check_gpus(crew.request.workers or 1)


def _check_gpus(count: int) -> None:
    if count > device_count("cuda"):
        raise ConfigurationError(
            f"There are {device_count('cuda')} GPUs for {count} workers, each of which takes one "
            "where they train a network together. Give fewer workers; 'chiasm search' alone may "
            "have several on a GPU."
        )


def check_rows(crew: Crew, train: DataLoader[Any], *, micro: int = 1) -> None:
    """Refuse batches with fewer rows than a crew has processes, before a search.

    Args:
        crew: that trains on them; of a cluster, the number may not be known yet.
        train: whole batches.
        micro: micro-batches of a batch.

    Raises:
        ConfigurationError: with what to give instead.
    """
    if is_several(crew):
        rank_loader(train, rank=Rank(0, crew.request.workers or 1), micro=micro)


def fit_together(
    module: LightningModule,
    train: DataLoader[Any],
    validation: DataLoader[Any] | None,
    *,
    crew: Crew,
    folder: Path,
    name: str,
    budget: Budget,
    callbacks: Sequence[Callback] = (),
    needed: Sequence[Path] = (),
    **settings: Any,
) -> None:
    """Train a module as ``fit`` does, in as many processes as a crew has.

    Each gets its rows of every batch, so that a step is that of one process with the same batch;
    see ``chiasm.training.ranks``. They resume from the checkpoint of any number of processes.

    Args:
        module: trained in place.
        train, validation: batches of one process.
        crew: whose number is taken; its own processes rest. On a cluster that was asked for without
            a number, there are as many as it has GPUs or, for a training on processors, machines.
        folder, name, budget, callbacks: of ``fit``.
        needed: files that the loaders read, besides those that the crew shares.
        settings: further arguments of ``fit``.

    Raises:
        ConfigurationError: there are not so many GPUs or processors, a batch has fewer rows, or a
            machine has other versions or does not see the files.
        WorkerLost: a process ended; what was complete is kept.
    """
    given = {"folder": folder, "name": name, "budget": budget, "callbacks": callbacks, **settings}
    if not is_several(crew):
        fit(module, train, validation, **given)
        return
    crew.rest()
    request, device = crew.request, device_of(module)
    given["folder"] = folder.absolute()
    random = random_states(device)
    with ExitStack() as stack:
        start: Callable[[RankTask], Trained]
        if request.ray is None:
            count = request.workers or 1
            if device.type == "cuda":
                _check_gpus(count)
            start = _in_processes
        else:
            cluster = stack.enter_context(ray_cluster(request.ray, cpus=request.workers))
            count = request.workers or _all_of(cluster, device)
            start = _OnRay(cluster, processors=_check_cluster(cluster, device, count))
        # Refused before processes are started.
        rank_loader(train, rank=Rank(0, count), micro=getattr(module, "accumulate", 1))
        module.cpu()
        work = (module, train, validation, given, random)
        path, digest = stack.enter_context(_written(work, folder.absolute(), name))
        task = RankTask(
            work=path,
            digest=digest,
            number=0,
            count=count,
            device=device.type,
            one_machine=request.ray is None,
            needed=tuple(str(path) for path in (*request.shared, *needed)),
            directory=str(Path.cwd()),
            versions=training_versions(),
        )
        say(f"Training in {count} processes{' of the cluster' if request.ray else ''} ...")
        try:
            trained = start(task)
        except WorkerLost as lost:
            raise WorkerLost(f"{lost} {_kept(folder, name)}") from lost
    restore(module, [budget, *callbacks], folder=folder, name=name)
    module.to(device)
    set_random_states(trained.random, device)


def _kept(folder: Path, name: str) -> str:
    last = folder / "checkpoints" / name / LAST
    if last.exists():
        return (
            f"What was trained up to the last complete epoch is kept ({last}): start the same "
            "command again, and it goes on from there."
        )
    return "No epoch was complete: start the same command again."


@contextmanager
def _written(work: Any, folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Write what the ranks need to the run's folder, which all machines see; give path and digest.

    As bytes, so that no rank shares memory with another one.
    """
    content = pickle.dumps(work)
    place = folder / "checkpoints" / name
    place.mkdir(parents=True, exist_ok=True)
    path = place / TASK
    path.write_bytes(content)
    try:
        yield path, hashlib.sha256(content).hexdigest()
    finally:
        path.unlink(missing_ok=True)


def _in_processes(task: RankTask) -> Trained:
    """Train in processes of this machine."""
    threads = threads_each(task.count)
    workers = [Worker(serve_rank, threads=threads, environment=_QUIET) for _ in range(task.count)]
    finished = False
    try:
        for number, worker in enumerate(workers):
            worker.send(replace(task, number=number))
        opened = _answers(workers, "before it trained", f" {GUARD}")
        for worker in workers:
            worker.send(opened[0])
        answers = _answers(workers, "while it trained")
        finished = True
        trained: Trained = answers[0]
        return trained
    finally:
        for worker in workers:
            worker.close(kill=not finished)


def _answers(workers: Sequence[Worker], when: str, remedy: str = "") -> list[Any]:
    """Return the answer of each worker.

    Raises:
        WorkerLost: one ended without an answer.
        Exception: what one of them raised.
    """
    waiting: dict[Connection, int] = {w.connection: n for n, w in enumerate(workers)}
    answers: list[Any] = [None] * len(workers)
    failures: list[Exception] = []
    deadline: float | None = None
    while waiting:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ended = first_answers(waiting, seconds=left)
        if not ended:
            break  # the others wait for one that has failed
        for number in ended:
            del waiting[workers[number].connection]
            try:
                answers[number] = workers[number].receive()
            except WorkerLost as lost:
                failures.append(WorkerLost(_lost(number, len(workers), when, f"{lost}{remedy}")))
            except Exception as error:
                failures.append(error)
        if failures and deadline is None:
            deadline = time.monotonic() + GRACE
    if failures:
        raise _cause(failures)
    return answers


def _lost(number: int, count: int, when: str, why: str) -> str:
    return (
        f"Worker {number + 1} of {count} was lost {when}. {why} Is there enough memory for "
        f"{count} of them?"
    )


def _cause(failures: Sequence[Exception]) -> Exception:
    """Return what failed first: the others then miss it in an exchange."""
    for kind in (WorkerLost, ChiasmError, OSError):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[0]


class _OnRay:
    """Trains in actors of a cluster.

    Args:
        ray: the module, connected.
        processors: of each actor.
    """

    def __init__(self, ray: Any, *, processors: int) -> None:
        self.ray = ray
        self.processors = processors

    def __call__(self, task: RankTask) -> Trained:
        """Train, and print what the first rank has to say meanwhile."""
        ray = self.ray
        # A rank is asked for its progress while it trains.
        made = ray.remote(
            num_cpus=self.processors,
            num_gpus=int(task.device == "cuda"),
            max_restarts=0,
            max_concurrency=2,
            runtime_env={"env_vars": _QUIET},
        )(RankActor)
        actors = [made.remote() for _ in range(task.count)]
        try:
            opened = self._answers(
                [
                    actor.open.remote(replace(task, number=number))
                    for number, actor in enumerate(actors)
                ],
                "before it trained",
            )
            return self._answers(
                [actor.train.remote(opened[0]) for actor in actors],
                "while it trained",
                leader=actors[0],
            )[0]
        finally:
            for actor in actors:
                ray.kill(actor)

    def _answers(self, references: Sequence[Any], when: str, leader: Any = None) -> list[Any]:
        """As ``_answers`` of processes."""
        ray = self.ray
        numbers = {reference: number for number, reference in enumerate(references)}
        answers: list[Any] = [None] * len(references)
        failures: list[Exception] = []
        deadline: float | None = None
        while numbers and (deadline is None or time.monotonic() < deadline):
            ended, _ = ray.wait(list(numbers), num_returns=1, timeout=POLL)
            for reference in ended:
                number = numbers.pop(reference)
                try:
                    answers[number] = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    failures.append(error_of_task(error))
                except ray.exceptions.RayError as error:
                    why = f"Ray: {type(error).__name__}."
                    failures.append(WorkerLost(_lost(number, len(references), when, why)))
            if failures and deadline is None:
                deadline = time.monotonic() + GRACE
            self._pass_on(leader)
        if failures:
            raise _cause(failures)
        return answers

    def _pass_on(self, leader: Any) -> None:
        if leader is None:
            return
        try:
            text = self.ray.get(leader.said.remote(), timeout=POLL)
        except (self.ray.exceptions.RayError, TimeoutError):
            return  # its own answer says more
        sys.stdout.write(text)  # lines of ``Progress``, which are not to be broken
        sys.stdout.flush()


def _all_of(ray: Any, device: torch.device) -> int:
    """Return the GPUs of a cluster or, for processors, its machines."""
    resources = ray_resources(ray)
    if device.type == "cuda":
        return max(1, int(sum(machine.get("GPU", 0) for machine in resources)))
    return max(1, sum(machine.get("CPU", 0) >= 1 for machine in resources))


def _check_cluster(ray: Any, device: torch.device, count: int) -> int:
    """Return the processors that each of ``count`` workers can have.

    Raises:
        ConfigurationError: the cluster has not enough of what they need, for which Ray would wait.
    """
    machines: list[Mapping[str, float]] = ray_resources(ray)
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    if device.type == "cuda" and gpus < count:
        raise ConfigurationError(
            f"The cluster has {gpus} GPUs for {count} workers, each of which takes one. Give fewer "
            "workers, start Ray on further machines, or give device=cpu."
        )
    processors = processors_each(machines, count)
    if not processors:
        total = int(sum(machine.get("CPU", 0) for machine in machines))
        raise ConfigurationError(
            f"The cluster has {total} processors for {count} workers, each of which takes one at "
            "least. Give fewer workers, or start Ray on further machines."
        )
    return processors if device.type == "cpu" else 1
