"""What a worker does: it opens model and inputs once, and writes the table of shard after shard."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chiasm.errors import ChiasmError, ConfigurationError, DataError
from chiasm.files.content_hash import content_hash
from chiasm.files.parquet import ParquetFile, remove_incomplete
from chiasm.runs.shard_plan import (
    INPUTS_KEY,
    MODEL_KEY,
    PLAN,
    PLAN_KEY,
    TALLY_KEY,
    Item,
    Job,
    Judge,
    Plan,
    read_digest,
)
from chiasm.runs.tally import Outcome, Tally
from chiasm.runs.workers import limit_threads

EVERY = -1  # in ``given_up``: all inputs of the shard
PICTURE_COLUMNS = {"source": "string", "png": "binary"}
PICTURES_IN_MEMORY = 32


def versions() -> dict[str, str]:
    """Return the versions that must agree between machines."""
    major, minor, _ = platform.python_version_tuple()
    return {"chiasm": version("chiasm"), "Python": f"{major}.{minor}"}


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs before its first shard.

    Attributes:
        job: the prediction.
        plan: its division.
        reader: of the inputs, without its listing; None where the worker opens them.
        threads: processor threads of the worker.
        versions: of the machine that asks.
        directory: to which relative paths belong.
    """

    job: Job
    plan: Plan
    reader: Any
    threads: int
    versions: Mapping[str, str]
    directory: str


# Of this process: the task that it has opened, and its model.
_opened: tuple[ShardTask, Judge] | None = None


def open_task(task: ShardTask) -> None:
    """Load the model and check that this machine has what the one that asks has.

    Raises:
        ConfigurationError: versions differ, or results, inputs or model are not seen from here.
    """
    global _opened
    host = socket.gethostname()
    for name, here in versions().items():
        if task.versions[name] != here:
            raise ConfigurationError(
                f"The worker on {host} has {name} {here}, and this machine "
                f"{task.versions[name]}: verdicts could differ. Install the same version on both."
            )
    _enter(task, host)
    if read_digest(task.plan.folder) != task.plan.digest:
        raise ConfigurationError(
            f"The worker on {host} does not see {task.plan.folder / PLAN} as this machine does. "
            "Results must go to a folder that all machines share: give one with --out."
        )
    if not task.job.inputs.exists():
        raise ConfigurationError(_unseen(host, str(task.job.inputs)))
    try:
        same = content_hash(task.job.model_files) == task.plan.model_hash
    except DataError as error:
        raise ConfigurationError(_unseen(host, str(task.job.model))) from error
    if not same:
        raise ConfigurationError(
            f"The worker on {host} has another model at {task.job.model} than this machine. Copy "
            "the model there, or name a folder that all machines share."
        )
    limit_threads(task.threads)
    _opened = task, task.job.judge(task.job.open_model(task.threads), task.reader)


def judge_shard(number: int, given_up: Mapping[int, str]) -> Tally:
    """Judge the inputs of a shard of the opened task, and write its table and heat maps.

    Args:
        number: of the shard.
        given_up: position in the shard to a sentence, for inputs that are not judged; ``EVERY``
            stands for all.

    Raises:
        ConfigurationError: none of the files are seen from here.
        OSError: the table cannot be written, for example because the disk is full.
    """
    assert _opened is not None
    task, judge = _opened
    plan = task.plan
    items = plan.items(number)
    if EVERY not in given_up:
        _check_seen(items)
    tally = Tally()
    metadata = {
        PLAN_KEY: plan.digest,
        MODEL_KEY: plan.model_hash,
        INPUTS_KEY: str(len(items)),
    }
    places = [plan.table(number), *([plan.pictures(number)] if task.job.pictures else [])]
    for path in places:
        remove_incomplete(path)
    noted = plan.place_of_work(number)
    with ExitStack() as stack:
        # Closed last, so that a shard with a table has its heat maps.
        table = stack.enter_context(ParquetFile(places[0], judge.columns, metadata))
        pictures = None
        if task.job.pictures:
            group = PICTURES_IN_MEMORY
            pictures = ParquetFile(places[1], PICTURE_COLUMNS, metadata, group=group)
            stack.enter_context(pictures)
        place = stack.enter_context(noted.open("wb", buffering=0))
        for position, item in enumerate(items):
            place.seek(0)
            place.write(position.to_bytes(8, "big"))
            sentence = given_up.get(position, given_up.get(EVERY, ""))
            for outcome in _judge(judge, item, sentence):
                table.append(outcome.row)
                if pictures is not None and outcome.picture is not None:
                    pictures.append({"source": outcome.row["source"], "png": outcome.picture})
                tally.add(outcome, number * plan.size + position)
        table.metadata[TALLY_KEY] = tally.to_json()
    noted.unlink(missing_ok=True)
    return tally


def serve_shards(request: ShardTask | int, given_up: Mapping[int, str] | None = None) -> Any:
    """Open a task, or judge a shard of the one that was opened; for ``Worker``."""
    if isinstance(request, ShardTask):
        return open_task(request)
    return judge_shard(request, given_up or {})


def judge_shard_of(task: ShardTask, number: int, given_up: Mapping[int, str]) -> Tally:
    """Judge a shard in a process that may have opened the task before, for Ray."""
    if _opened is None or _opened[0].plan != task.plan:
        open_task(task)
    return judge_shard(number, given_up)


def _judge(judge: Judge, item: Item, sentence: str) -> Sequence[Outcome]:
    source = item["source"]
    if sentence or "problem" in item:
        return (judge.failed(source, item.get("problem", sentence)),)
    try:
        return judge.judge(item)
    except ChiasmError as error:
        return (judge.failed(source, str(error)),)
    except Exception as error:  # one input must not end the work on a million others
        failed = judge.failed(
            source,
            f"{source} could not be judged: {type(error).__name__}: {error}. This was not "
            "expected; please report it.",
        )
        return (failed,)


def _enter(task: ShardTask, host: str) -> None:
    """Stand in the directory that relative paths belong to; a worker of Ray stands elsewhere."""
    paths = (task.job.inputs, task.job.model, task.plan.folder)
    if all(path.is_absolute() for path in paths) or Path.cwd() == Path(task.directory):
        return
    try:
        os.chdir(task.directory)
    except OSError as error:
        raise ConfigurationError(
            f"The worker on {host} has no folder {task.directory}, to which "
            f"{' and '.join(str(path) for path in paths if not path.is_absolute())} belong; give "
            "absolute paths that all machines see."
        ) from error


def _check_seen(items: list[Item]) -> None:
    """Refuse a shard of which neither a file nor its folder's content is there.

    That is a machine without the data, and not files that were removed since they were listed.
    """
    files = [Path(path) for item in items for path in item.get("files", {}).values()]
    if not files or any(path.exists() for path in files):
        return
    folder = files[0].parent
    if not folder.is_dir() or not any(folder.iterdir()):
        raise ConfigurationError(_unseen(socket.gethostname(), str(files[0])))


def _unseen(host: str, path: str) -> str:
    return (
        f"The worker on {host} does not see {path}. All machines must see model and data under the "
        "same paths: mount them there, or name folders that all of them see."
    )
