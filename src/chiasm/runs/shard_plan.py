"""The plan of a prediction in shards: which inputs each shard holds, and where its table goes.

A folder holds one plan. ``plan.json`` says what is judged, ``listing/`` what each shard holds, and
``verdicts/`` the table of each complete shard, so that a later run finds what is left to do.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from chiasm.errors import ChiasmError, ConfigurationError, DataError
from chiasm.files.content_hash import content_hash
from chiasm.files.parquet import read_metadata
from chiasm.runs.tally import Outcome, Tally

PLAN = "plan.json"
SCHEMA = "chiasm.prediction"
VERSION = 1
SECONDS = 30.0  # that a shard should take: little is lost with a worker, and little is overhead
TIMED = 3  # inputs that are timed, after one that warms the model up
MOST_SHARDS = 99_999  # as many as names with five digits
# Metadata of the tables.
PLAN_KEY, MODEL_KEY, TALLY_KEY = "chiasm.plan", "chiasm.model", "chiasm.tally"
INPUTS_KEY = "chiasm.inputs"  # which may have several rows each

Item = Mapping[str, Any]  # a reference to an input, or what is wrong with it, as JSON


@dataclass(frozen=True)
class Listing:
    """What is to be judged.

    Attributes:
        refs: references of the reader, with ``source`` and ``files``.
        problems: source and sentence of each input that the reader leaves out.
        remarks: to say before the first verdict.
        promise: of the model, to say in the end; "" without.
        reader: as workers need it, see ``chiasm.files.readers.without_listing``; None where each
            opens the inputs itself.
        files: that the references do not name, and whose change makes them other inputs.
    """

    refs: Sequence[Any]
    problems: Sequence[tuple[str, str]] = ()
    remarks: tuple[str, ...] = ()
    promise: str = ""
    reader: Any = None
    files: tuple[Path, ...] = ()


class Judge(Protocol):
    """A model that was opened together with the reader of its inputs."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Columns of the table, name to a type of Arrow, see ``ParquetFile``."""
        ...

    def judge(self, item: Item) -> Sequence[Outcome]:
        """Judge one input; return an outcome for each of its rows, at least one.

        What is wrong with the input is an outcome, too. A frame with several parts has several.
        """
        ...

    def failed(self, source: str, sentence: str) -> Outcome:
        """Return the outcome of an input that cannot be judged."""
        ...


class Job(Protocol):
    """What a wing says of a prediction; it can be sent to other processes."""

    @property
    def noun(self) -> str:
        """What the inputs are, e.g. ``"parts"``."""
        ...

    @property
    def model(self) -> Path:
        """The model's folder."""
        ...

    @property
    def model_files(self) -> tuple[Path, ...]:
        """The files that tell this model from all others."""
        ...

    @property
    def inputs(self) -> Path:
        """Folder or table."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """What else decides the tables, as JSON."""
        ...

    @property
    def pictures(self) -> bool:
        """Whether there are heat maps."""
        ...

    def open_model(self, threads: int) -> Any:
        """Load the model."""
        ...

    def listing(self, model: Any) -> Listing:
        """List the inputs."""
        ...

    def judge(self, model: Any, reader: Any) -> Judge:
        """Join a model and a reader; the inputs are opened where there is no reader."""
        ...


@dataclass(frozen=True)
class Plan:
    """The division of inputs into shards.

    Attributes:
        folder: of the results.
        digest: of everything that decides the tables.
        model_hash: of the files that identify the model.
        inputs: their number.
        size: inputs of a shard; the last one can have fewer.
    """

    folder: Path
    digest: str
    model_hash: str
    inputs: int
    size: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return math.ceil(self.inputs / self.size)

    def count(self, number: int) -> int:
        """Return the number of inputs of a shard."""
        return min(self.size, self.inputs - number * self.size)

    def table(self, number: int) -> Path:
        """Return the place of a shard's verdicts."""
        return self.folder / "verdicts" / f"part-{number:05d}.parquet"

    def pictures(self, number: int) -> Path:
        """Return the place of a shard's heat maps."""
        return self.folder / "heat_maps" / f"part-{number:05d}.parquet"

    def items(self, number: int) -> list[Item]:
        """Return the inputs of a shard."""
        items: list[Item] = json.loads(self._listing(number).read_text())
        return items

    def place_of_work(self, number: int) -> Path:
        """Return the file in which a worker notes which of a shard's inputs it is at."""
        return self.folder / "listing" / f".part-{number:05d}.at"

    def read_place(self, number: int) -> int | None:
        """Return the input of a shard that its worker was at; None if it had not begun."""
        try:
            content = self.place_of_work(number).read_bytes()
        except OSError:
            return None
        return int.from_bytes(content, "big") if content else None

    def complete(self, number: int) -> Tally | None:
        """Return the counts of a shard that is complete; None if it is still to be judged."""
        path = self.table(number)
        if not path.is_file():
            return None
        try:
            metadata = read_metadata(path)
            inputs = int(metadata.get(INPUTS_KEY, metadata["rows"]))
            if metadata.get(PLAN_KEY) != self.digest or inputs != self.count(number):
                return None
            return Tally.from_json(metadata[TALLY_KEY])
        except (OSError, ValueError, KeyError):
            return None  # damaged: judged again, and replaced

    def write_listing(self, items: Iterable[Item]) -> None:
        """Write which inputs each shard holds."""
        self._listing(0).parent.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(batched_list(items, self.size)):
            _write(self._listing(number), part)

    def _listing(self, number: int) -> Path:
        return self.folder / "listing" / f"part-{number:05d}.json"


@dataclass(frozen=True)
class Planned:
    """A plan, and what is said of it or needed by its workers; see ``Listing``."""

    plan: Plan
    reader: Any
    remarks: tuple[str, ...]
    promise: str


def make_plan(job: Job, folder: Path, workers: int, threads: int) -> Planned:
    """List the inputs, and plan the shards or find them planned in the folder.

    Called in a process of its own: the whole listing is in memory for this while.

    Args:
        job: the prediction.
        folder: of the results.
        workers: that will share the shards.
        threads: processor threads of each.

    Raises:
        ConfigurationError: the folder holds results of another model, of other inputs or options.
        DataError: there are no inputs, or they cannot be read.
    """
    model = job.open_model(threads)
    listing = job.listing(model)
    items = _items(listing)
    facts: dict[str, Any] = {
        "model": content_hash(job.model_files),
        "inputs": _digest_of(items, listing.files),
        "options": dict(job.options),
        "version of chiasm": version("chiasm"),
    }
    count = len(listing.refs) + len(listing.problems)
    if not count:
        raise DataError(f"{job.inputs} holds nothing to judge.")
    size = _planned_size(folder, facts)
    if size is None:
        size = _size(job, model, listing, count, workers)
    plan = Plan(folder, _hash(facts), facts["model"], count, size)
    for name in ("verdicts", *(["heat_maps"] if job.pictures else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    plan.write_listing(_items(listing))
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        "digest": plan.digest,
        "model_folder": str(job.model),
        "inputs_path": str(job.inputs),
        "count": count,
        "shard_size": size,
        "shards": plan.shards,
        "facts": facts,
    }
    _write(folder / PLAN, content)
    return Planned(plan, listing.reader, listing.remarks, listing.promise)


def read_digest(folder: Path) -> str:
    """Return the digest of the plan that a folder holds; "" where there is none."""
    try:
        return str(json.loads((folder / PLAN).read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def batched_list(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of ``size`` items; the last one can have fewer."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _planned_size(folder: Path, facts: Mapping[str, Any]) -> int | None:
    """Return the size of the shards that were planned in a folder; None in a new folder."""
    path = folder / PLAN
    if not path.exists():
        if any((folder / "verdicts").glob("part-*.parquet")):
            raise ConfigurationError(
                f"{folder} holds verdicts without the {PLAN} that they belong to. Choose another "
                "folder, or delete this one."
            )
        return None
    try:
        content = json.loads(path.read_text())
        if (content["schema"], content["version"]) != (SCHEMA, VERSION):
            raise ValueError(f"schema {content['schema']} {content['version']}")
        before, size = dict(content["facts"]), int(content["shard_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as a plan of this version ({error}). Choose another folder, or "
            "delete this one."
        ) from error
    differing = [name for name in facts if before.get(name) != facts[name]]
    if differing:
        raise ConfigurationError(
            f"{folder} holds verdicts of another prediction (other {', other '.join(differing)}). "
            "Choose another folder, delete this one, or give what it was started with; inputs are "
            "others, too, when a file was added, removed or changed."
        )
    return size


def _size(job: Job, model: Any, listing: Listing, count: int, workers: int) -> int:
    """Return how many inputs make a shard of about ``SECONDS``, with some for each worker."""
    share = math.ceil(count / (2 * workers))
    timed: list[float] = []
    if len(listing.refs) > 4 * workers:
        judge = job.judge(model, listing.reader)
        step = max(1, len(listing.refs) // (TIMED + 1))
        for ref in listing.refs[::step][: TIMED + 1]:
            started = time.perf_counter()
            try:
                judge.judge(item_of(ref))
            except ChiasmError:
                raise
            except Exception:
                continue  # told when its shard is judged
            timed.append(time.perf_counter() - started)
    by_time = SECONDS / max(sum(timed[1:]) / len(timed[1:]), 1e-4) if timed[1:] else share
    return max(1, min(round(by_time), share), math.ceil(count / MOST_SHARDS))


def item_of(ref: Any) -> dict[str, Any]:
    """Return a reader's reference as JSON; paths become text."""
    content = asdict(ref)
    return content | {"files": {role: str(path) for role, path in ref.files.items()}}


def _items(listing: Listing) -> Iterator[dict[str, Any]]:
    problems = ({"source": source, "problem": text} for source, text in listing.problems)
    return chain(map(item_of, listing.refs), problems)


def _digest_of(items: Iterable[Item], files: Iterable[Path]) -> str:
    """Hash a listing, and the sizes and dates of its files: another file may take a name."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, sort_keys=True).encode())
        for path in item.get("files", {}).values():
            digest.update(_state(path))
    for path in files:
        digest.update(f"{path}".encode() + _state(path))
    return digest.hexdigest()


def _state(path: Path | str) -> bytes:
    try:
        state = Path(path).stat()
    except OSError:
        return b"missing"
    return f"{state.st_size} {state.st_mtime_ns}".encode()


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content) + "\n")
    part.replace(path)
