"""Loaders of one rank's rows of every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import BatchSampler, DataLoader, Sampler

from chiasm.errors import ConfigurationError
from chiasm.training.ranks import Rank, rank_rows


@runtime_checkable
class Divisible(Protocol):
    """An order of whole batches that knows how to divide each of them."""

    def of_rank(self, rank: Rank) -> Sampler[Any]:
        """Return the same order with one rank's rows of every batch."""


class RankBatches(Sampler[list[int]]):
    """The rows of every batch that are one rank's.

    Args:
        batches: of the training.
        rank: whose rows.
        micro: micro-batches of a batch, each of which is divided.
    """

    def __init__(self, batches: BatchSampler, *, rank: Rank, micro: int) -> None:
        self.batches = batches
        self.sampler = batches.sampler  # whose epoch the trainer sets
        self.rank = rank
        self.micro = micro

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for positions in self.batches:
            parts = rank_rows(len(positions), rank=self.rank, micro=self.micro)
            yield [positions[row] for rows in parts for row in rows]


def rank_loader(loader: DataLoader[Any], *, rank: Rank, micro: int = 1) -> DataLoader[Any]:
    """Return a loader of one rank's rows of every batch; the batches stay those of one process.

    Args:
        loader: of the whole batches.
        rank: whose rows.
        micro: micro-batches of a batch.

    Raises:
        ConfigurationError: a batch, or a micro-batch, has fewer rows than there are ranks.
    """
    arguments: dict[str, Any] = {
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        # The ranks of a machine share its cores.
        "num_workers": math.ceil(loader.num_workers / rank.count),
    }
    if loader.batch_size is None and isinstance(loader.sampler, Divisible):
        order = loader.sampler.of_rank(rank)
        return DataLoader(loader.dataset, batch_size=None, sampler=order, **arguments)
    batches = loader.batch_sampler
    assert isinstance(batches, BatchSampler)
    smallest = _smallest(batches, micro)
    if smallest < rank.count:
        what = "A step" if micro == 1 else "A micro-batch"
        lower = "" if micro == 1 else ", a smaller accumulate"
        raise ConfigurationError(
            f"{what} has {smallest} rows, and there are {rank.count} workers, each of which takes "
            f"one at least. Give {smallest} workers or fewer{lower}, or a larger batch (a step of "
            "parts whose features are trained has 8 at most)."
        )
    divided = RankBatches(batches, rank=rank, micro=micro)
    return DataLoader(loader.dataset, batch_sampler=divided, **arguments)


def has_empty_shares(loader: DataLoader[Any]) -> bool:
    """Return whether a rank's loader has batches none of whose rows are the rank's."""
    return bool(getattr(loader.sampler, "has_empty_shares", False))


def _smallest(batches: BatchSampler, micro: int) -> int:
    """Return the rows of the smallest micro-batch."""
    rows = len(batches.sampler)  # type: ignore[arg-type]  # of a length, all of ours
    sizes = {min(batches.batch_size, rows)}
    if not batches.drop_last and rows % batches.batch_size:
        sizes.add(rows % batches.batch_size)
    ends = [rank_rows(size, rank=Rank(), micro=micro)[-1] for size in sizes if size]
    return min((len(end) for end in ends), default=0)
