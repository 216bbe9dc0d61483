"""Judge inputs in shards: in processes of this machine, or as tasks of a Ray cluster.

What is complete lies on disk, so that this process holds counts alone, and a run that ended goes on
where it was. A worker that is lost costs the shard that it was at, which is judged again.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.files.parquet import remove_incomplete
from chiasm.runs.console import say
from chiasm.runs.ray_cluster import error_of_task, ray_cluster
from chiasm.runs.shard_plan import Job, Plan, Planned, make_plan
from chiasm.runs.shard_worker import (
    EVERY,
    ShardTask,
    judge_shard_of,
    serve_shards,
    versions,
)
from chiasm.runs.tally import Tally
from chiasm.runs.workers import GUARD, Worker, WorkerLost, call_apart, first_answers, threads_each
from chiasm.training.progress import Progress

RETRIES = 3  # of a shard whose worker was lost
SUSPECTS = 3  # inputs of a shard that are given up one by one, before all of it is


Finished = tuple[int, Tally]


@dataclass(frozen=True)
class Prediction:
    """A finished prediction in shards.

    Attributes:
        tally: counts of all inputs.
        promise: of the model; "" without.
    """

    tally: Tally
    promise: str


class ShardQueue:
    """The shards that are still to be judged, and what is known of the workers lost at them.

    A shard is tried again ``RETRIES`` times. Then the inputs at which more than one of its workers
    was lost are given up, and get a row with an error; after ``SUSPECTS`` of these, or where there
    is none, the whole shard is given up.

    Args:
        plan: of the shards.
        numbers: of the shards to judge.
    """

    def __init__(self, plan: Plan, numbers: Iterable[int]) -> None:
        self.plan = plan
        self._waiting = deque(numbers)
        self._losses: dict[int, list[int | None]] = {}
        self._given_up: dict[int, dict[int, str]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> tuple[int, dict[int, str]] | None:
        """Return the next shard, and which of its inputs are given up and why; None at the end."""
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        return number, self._given_up.get(number, {})

    def finish(self, number: int) -> None:
        """Forget what is known of a shard that is complete."""
        self._losses.pop(number, None)
        self._given_up.pop(number, None)

    def lose(self, number: int, cause: str) -> None:
        """Put back a shard whose worker was lost.

        Raises:
            ArtifactError: it was lost although it had nothing left to judge.
        """
        losses = self._losses.setdefault(number, [])
        losses.append(self.plan.read_place(number))
        self._waiting.appendleft(number)
        if len(losses) <= RETRIES:
            return
        given_up = self._given_up.setdefault(number, {})
        if EVERY in given_up:
            raise ArtifactError(
                f"Workers are lost whenever they write shard {number} ({cause}); look at the "
                "system's log. What is complete is kept."
            )
        often = {i for i, n in Counter(losses).items() if i is not None and n > 1} - {*given_up}
        if often and len(given_up) < SUSPECTS:
            given_up |= dict.fromkeys(
                often, f"A worker was lost several times while it judged this input: {cause}"
            )
        else:
            given_up[EVERY] = (
                f"{len(losses)} workers were lost while they judged the shard of this input: "
                f"{cause}"
            )
        losses.clear()


def predict_in_shards(
    job: Job, out: Path, *, workers: int | None, ray: str | None, quiet: bool = False
) -> Prediction:
    """Judge all inputs of a job; write the tables of those that are not complete yet.

    Args:
        job: the prediction.
        out: folder of the results; for a cluster one that all its machines share.
        workers: at work at a time; None takes one for each processor of the cluster.
        ray: address of a cluster, see ``ray_cluster``; None takes processes of this machine.
        quiet: show no progress.

    Raises:
        ConfigurationError: the folder holds another prediction; a machine lacks something; nothing
            answers at the address.
        ArtifactError: the results cannot be written, for example because the disk is full.
        DataError: there are no inputs.
    """
    if workers is not None and workers < 1:
        raise ConfigurationError(f"{workers} workers were asked for; one at least is needed.")
    with ExitStack() as stack:
        cluster = None
        if ray is not None:
            cluster = stack.enter_context(ray_cluster(ray, cpus=workers))
            workers = workers or max(1, int(cluster.cluster_resources().get("CPU", 1)))
        count = workers or 1
        threads = 1 if cluster else threads_each(count)
        if not quiet:
            say(f"Listing {job.noun} of {job.inputs} ...")
        with _writing(job, out, None):
            planned = _planned(job, out, count, threads)
        plan = planned.plan
        for remark in planned.remarks:
            say(remark)
        tally, missing = _complete(plan)
        judged = plan.inputs - sum(map(plan.count, missing))
        if not quiet and judged:
            say(f"{judged} of {plan.inputs} {job.noun} are judged already.")
        task = ShardTask(job, plan, planned.reader, threads, versions(), str(Path.cwd()))
        queue = ShardQueue(plan, missing)
        if cluster is not None:
            finished = run_on_ray(cluster, task, queue, workers=count)
        else:
            finished = run_locally(task, queue, workers=count)
        progress = None
        if not quiet:
            progress = stack.enter_context(
                Progress("Predicting", plan.inputs, unit=job.noun, done=judged)
            )
        with _writing(job, out, plan):
            stack.enter_context(closing(finished))  # ends the workers, whatever ends this
            for number, counts in finished:
                queue.finish(number)
                tally.merge(counts)
                if progress is not None:
                    progress.update(plan.count(number))
    return Prediction(tally, planned.promise)


def run_locally(
    task: ShardTask, queue: ShardQueue, *, workers: int
) -> Generator[Finished, None, None]:
    """Judge the shards of a queue in processes of this machine; yield each that is complete.

    Raises:
        ConfigurationError, OSError: of the first worker that has one.
        ArtifactError: workers are lost before they have loaded the model.
    """
    at_work: dict[Connection, tuple[Worker, int | None]] = {}  # None: it loads the model
    unborn = 0

    def start() -> None:
        worker = Worker(serve_shards, threads=task.threads)
        worker.send(task)
        at_work[worker.connection] = worker, None

    try:
        for _ in range(min(workers, len(queue))):
            start()
        while at_work:
            for worker, number in first_answers(at_work):
                del at_work[worker.connection]
                try:
                    answer = worker.receive()
                except WorkerLost as lost:
                    worker.close()
                    if number is not None:
                        queue.lose(number, str(lost))
                    elif (unborn := unborn + 1) > RETRIES:
                        raise ArtifactError(
                            f"{unborn} workers ended before they had loaded the model. {lost} Is "
                            f"there enough memory for {workers} of them? {GUARD}"
                        ) from lost
                    start()
                    continue
                except BaseException:
                    worker.close(kill=True)
                    raise
                unborn = 0
                if number is not None:
                    yield number, answer
                following = queue.take()
                if following is None:
                    worker.close()
                else:
                    worker.send(*following)
                    at_work[worker.connection] = worker, following[0]
    finally:
        for worker, number in at_work.values():
            worker.close(kill=True)
            if number is not None:
                _clean(task.plan, number)


def run_on_ray(
    ray: Any, task: ShardTask, queue: ShardQueue, *, workers: int
) -> Generator[Finished, None, None]:
    """Judge the shards of a queue as tasks of a cluster; yield each that is complete.

    Args:
        ray: the module, connected.
        task: what the workers need.
        queue: of the shards.
        workers: tasks at a time.

    Raises:
        ConfigurationError, OSError: of the first worker that has one.
    """
    # Lost shards are put back by the queue, which knows what they were at.
    judge = ray.remote(num_cpus=1, max_retries=0)(judge_shard_of)
    shared = ray.put(task)
    running: dict[Any, int] = {}
    try:
        while queue or running:
            while len(running) < workers and (following := queue.take()) is not None:
                running[judge.remote(shared, *following)] = following[0]
            ended, _ = ray.wait(list(running), num_returns=1)
            for reference in ended:
                number = running.pop(reference)
                try:
                    yield number, ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error_of_task(error) from error
                except ray.exceptions.RayError as error:
                    queue.lose(number, f"Ray: {type(error).__name__}.")
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _planned(job: Job, out: Path, workers: int, threads: int) -> Planned:
    """Return the plan, made in a process that ends with the memory of the whole listing."""
    try:
        return call_apart(make_plan, job, out, workers, threads, threads=threads)
    except WorkerLost as lost:
        raise ArtifactError(
            f"The process that lists {job.inputs} and loads {job.model} was lost. {lost} Is there "
            f"enough memory? {GUARD}"
        ) from lost


def _complete(plan: Plan) -> tuple[Tally, list[int]]:
    """Return the counts of the complete shards, and the numbers of the others."""
    tally, missing = Tally(), []
    for number in range(plan.shards):
        counts = plan.complete(number)
        if counts is None:
            missing.append(number)
        else:
            tally.merge(counts)
    return tally, missing


def _clean(plan: Plan, number: int) -> None:
    for path in (plan.table(number), plan.pictures(number)):
        remove_incomplete(path)


class _writing:
    """Say of an ``OSError`` what is kept, and how to go on."""

    def __init__(self, job: Job, out: Path, plan: Plan | None) -> None:
        self.job, self.out, self.plan = job, out, plan

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, OSError):
            return
        kept = ""
        if self.plan is not None:
            _, missing = _complete(self.plan)
            judged = self.plan.inputs - sum(map(self.plan.count, missing))
            kept = (
                f"{self.plan.shards - len(missing)} of {self.plan.shards} shards are complete "
                f"({judged} of {self.plan.inputs} {self.job.noun}) and are kept. "
            )
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "The disk is full" if full else f"A file cannot be read or written ({error})"
        mend = "Free some space" if full else "Mend this"
        raise ArtifactError(
            f"{what}: {self.out}. {kept}{mend} and run the same command again; it goes on from "
            "there."
        ) from error
