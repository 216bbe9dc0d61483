"""The process group of a training in several processes, and what a ``Trainer`` needs of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from chiasm.training.ranks import Rank, this_rank, training_together

LOOPBACK = "127.0.0.1"


class MeetingPlace:
    """A store where ranks find each other, at a port of one machine.

    Args:
        host: address of the machine.
        port: of the store; None makes it here, at a free port.
        count: of the ranks.
    """

    def __init__(self, host: str, port: int | None, count: int) -> None:
        self.store: Any = dist.TCPStore(  # type: ignore[attr-defined]
            host, port or 0, count, is_master=port is None, wait_for_workers=False
        )
        self.host = host
        self.port = int(self.store.port)


@contextmanager
def process_group(
    rank: Rank, device: torch.device, place: MeetingPlace, *, one_machine: bool
) -> Iterator[None]:
    """Train as one of several ranks: NCCL between CUDA GPUs, Gloo between processors.

    Args:
        rank: of this process.
        device: that it trains on.
        place: where the ranks meet.
        one_machine: whether all ranks are on this one; Gloo then needs no other network.
    """
    if one_machine:
        loopback = "lo" if sys.platform == "linux" else "lo0"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    options: dict[str, Any] = {}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        options["device_id"] = device
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=place.store,
        rank=rank.number,
        world_size=rank.count,
        **options,
    )
    try:
        with training_together(rank):
            yield
    finally:
        dist.destroy_process_group()


class RankEnvironment(ClusterEnvironment):
    """Tells Lightning of ranks that were started and joined elsewhere, each a node of its own.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Not asked for: the process group is made."""
        return LOOPBACK

    @property
    def main_port(self) -> int:
        """Not asked for: the process group is made."""
        return 0

    @staticmethod
    def detect() -> bool:
        """False: it is named and never detected."""
        return False

    def world_size(self) -> int:
        """Return the number of ranks."""
        return self.rank.count

    def set_world_size(self, size: int) -> None:
        """Change nothing."""

    def global_rank(self) -> int:
        """Return the number of this rank."""
        return self.rank.number

    def set_global_rank(self, rank: int) -> None:
        """Change nothing."""

    def local_rank(self) -> int:
        """Return 0: a rank is alone on its node."""
        return 0

    def node_rank(self) -> int:
        """Return the number of this rank."""
        return self.rank.number


def trainer_place(device: torch.device) -> dict[str, Any]:
    """Return the arguments of a ``Trainer`` that trains on a device, alone or as a rank."""
    devices: Any = [device.index or 0] if device.type == "cuda" else 1
    place = {"accelerator": device.type, "devices": devices}
    rank = this_rank()
    if rank.count == 1:
        return place
    strategy = DDPStrategy(
        cluster_environment=RankEnvironment(rank),
        # The heads of other stages, absent modalities and experts without tokens get no gradient.
        find_unused_parameters=True,
        broadcast_buffers=False,  # batch norms compute them of the rows of all ranks
    )
    return place | {"strategy": strategy, "num_nodes": rank.count}
