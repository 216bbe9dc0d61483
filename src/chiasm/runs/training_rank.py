"""What one of several processes does that train a network together."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chiasm.errors import ConfigurationError
from chiasm.runs.shard_worker import versions
from chiasm.training.device import find_device
from chiasm.training.distributed import LOOPBACK, MeetingPlace, process_group
from chiasm.training.ranks import Rank
from chiasm.training.trainer import fit


@dataclass(frozen=True)
class RankTask:
    """What a rank needs before it trains.

    Attributes:
        work: file with module, loaders and arguments of ``fit``.
        digest: SHA-256 of the file.
        number, count: of the rank.
        device: kind of its device.
        one_machine: whether all ranks are on this one.
        needed: files that the loaders read.
        directory: to which relative paths belong.
        versions: of the machine that asks.
    """

    work: Path
    digest: str
    number: int
    count: int
    device: str
    one_machine: bool
    needed: tuple[str, ...]
    directory: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """Where the ranks find each other."""

    host: str
    port: int


@dataclass(frozen=True)
class Trained:
    """What a rank returns; weights and figures are in the checkpoint.

    Attributes:
        random: states of the generators of random numbers, by kind of device.
    """

    random: Mapping[str, Any]


def training_versions() -> dict[str, str]:
    """Return the versions that must agree between the machines of a training."""
    return versions() | {"PyTorch": torch.__version__.partition("+")[0]}


# Of this process: the task that it has opened, its work, and the place if it is the first rank.
_opened: tuple[RankTask, Any, MeetingPlace | None] | None = None


def serve_rank(request: RankTask | Place) -> Any:
    """Open a task and return the place of the first rank, or train; for ``Worker``."""
    return open_rank(request) if isinstance(request, RankTask) else train_rank(request)


def open_rank(task: RankTask, host: str = LOOPBACK) -> Place | None:
    """Check that this machine has what the one that asks has, and read the work.

    Args:
        task: of this rank.
        host: address of this machine.

    Returns:
        Where the ranks meet; None but for the first one.

    Raises:
        ConfigurationError: versions differ, or run or data are not seen from here.
    """
    global _opened
    name = socket.gethostname()
    for what, version in training_versions().items():
        if task.versions[what] != version:
            raise ConfigurationError(
                f"The worker on {name} has {what} {version}, and this machine "
                f"{task.versions[what]}: they could not train together. Install the same version "
                "on both."
            )
    _enter(task, name)
    content = task.work.read_bytes() if task.work.exists() else b""
    if _digest(content) != task.digest:
        raise ConfigurationError(
            f"The worker on {name} does not see {task.work} as this machine does. The run must be "
            "in a folder that all machines share: give one with --out."
        )
    for path in task.needed:
        if not Path(path).exists():
            raise ConfigurationError(
                f"The worker on {name} does not see {path}. All machines must see the data under "
                "the same path: mount them there, or name a folder that all of them see."
            )
    made = MeetingPlace(host, None, task.count) if task.number == 0 else None
    _opened = task, pickle.loads(content), made
    return None if made is None else Place(host, made.port)


def train_rank(place: Place) -> Trained:
    """Train the work of the opened task together with the other ranks.

    Args:
        place: where they meet.
    """
    global _opened
    assert _opened is not None
    (task, work, made), _opened = _opened, None
    module, train, validation, arguments, random = work
    if made is None:
        made = MeetingPlace(place.host, place.port, task.count)
    device = _device(task)
    module.to(device)
    set_random_states(random, device)
    with process_group(Rank(task.number, task.count), device, made, one_machine=task.one_machine):
        fit(module, train, validation, **arguments)
    return Trained(random_states(device))


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of this process's generators of random numbers, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Let the generators of this process and its device go on from some states."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


class RankActor:
    """A rank as an actor of Ray, which keeps what its training prints."""

    def __init__(self) -> None:
        self._printed = io.StringIO()
        self._passed_on = 0

    def open(self, task: RankTask) -> Place | None:
        """As ``open_rank``."""
        import ray

        return open_rank(task, host=ray.util.get_node_ip_address())

    def train(self, place: Place) -> Trained:
        """As ``train_rank``."""
        with redirect_stdout(self._printed):
            return train_rank(place)

    def said(self) -> str:
        """Return the lines that were printed since they were last asked for."""
        text = self._printed.getvalue()
        complete = text[self._passed_on : text.rfind("\n") + 1]
        self._passed_on += len(complete)
        return complete


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _device(task: RankTask) -> torch.device:
    """Return the rank's device: its own GPU of this machine, or the one that Ray has given it."""
    if task.device != "cuda":
        return find_device(task.device)
    return find_device(f"cuda:{task.number if task.one_machine else 0}")


def _enter(task: RankTask, name: str) -> None:
    """Stand in the directory that relative paths belong to; a worker of Ray stands elsewhere."""
    if Path.cwd() == Path(task.directory):
        return
    relative = [path for path in task.needed if not Path(path).is_absolute()]
    try:
        os.chdir(task.directory)
    except OSError as error:
        if relative:
            raise ConfigurationError(
                f"The worker on {name} has no folder {task.directory}, to which "
                f"{' and '.join(relative)} belong; give absolute paths that all machines see."
            ) from error
