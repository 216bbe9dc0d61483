"""One training in several processes: whose rows are whose, and what is computed of all of them.

A step has one batch, whose rows are divided over the ranks. Each rank computes the loss of the
whole batch: its own rows go through the network here, and sums or rows of the others are exchanged.
So a loss may have any form, and means, Dice or a contrast are those of the batch. Alone, and where
no batch is shared, every function here leaves its argument as it is.

What all ranks compute alike, each has a copy of, with its own graph, so that the gradient of a
rank's rows is that of all copies together. The mean over ranks, which
``DistributedDataParallel`` takes, is then the gradient of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rank:
    """A process among those that train together.

    Attributes:
        number: from 0; the first one writes checkpoints, logs and progress.
        count: of all.
    """

    number: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether it writes for all of them."""
        return self.number == 0


@dataclass(frozen=True, slots=True)
class Share:
    """How the rows of a batch lie on the ranks: in blocks, in the order of the ranks.

    Attributes:
        rank: this process.
        sizes: rows of each rank.
    """

    rank: Rank
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        """Rows of the batch."""
        return sum(self.sizes)

    @property
    def rows(self) -> slice:
        """Rows of the batch that this rank has."""
        start = sum(self.sizes[: self.rank.number])
        return slice(start, start + self.sizes[self.rank.number])


_ALONE = Rank()
# Of this process: the rank that it is, and how the batch lies whose loss is being computed.
_rank = _ALONE
_share: Share | None = None


def this_rank() -> Rank:
    """Return the rank of this process; the only one where it trains alone."""
    return _rank


@contextmanager
def training_together(rank: Rank) -> Iterator[None]:
    """Be a rank; the process group is made."""
    global _rank
    before, _rank = _rank, rank
    try:
        yield
    finally:
        _rank = before


@contextmanager
def sharing(rows: int) -> Iterator[Share]:
    """Compute a loss of a batch of which this rank has some rows; all ranks enter together.

    Args:
        rows: of this rank; 0 where what it computes is to count for nothing.
    """
    global _share
    sizes = (rows,) if _rank.count == 1 else tuple(_everyones(rows))
    before, _share = _share, Share(_rank, sizes)
    try:
        yield _share
    finally:
        _share = before


def has_rows() -> bool:
    """Return whether this rank has rows of the batch; what it computes without any is left out."""
    return _share is None or _share.sizes[_share.rank.number] > 0


def blocks(count: int, shares: int) -> list[slice]:
    """Divide rows into blocks whose lengths differ by one at most, longer ones first.

    Example:
        >>> [(part.start, part.stop) for part in blocks(5, 2)]
        [(0, 3), (3, 5)]
    """
    each, left = divmod(count, shares)
    ends = [each * number + min(number, left) for number in range(shares + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def micro_slices(total: int, count: int) -> list[slice]:
    """Divide rows into at most ``count`` blocks of equal length, the last with what is left.

    Example:
        >>> [(part.start, part.stop) for part in micro_slices(5, 3)]
        [(0, 2), (2, 4), (4, 5)]
    """
    size = math.ceil(total / count)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def rank_rows(total: int, *, rank: Rank, micro: int = 1) -> list[list[int]]:
    """Return the rows of a batch that are a rank's, for each of its micro-batches.

    Args:
        total: rows of the batch.
        rank: whose rows.
        micro: micro-batches of the batch; each is divided over the ranks.

    Example:
        >>> rank_rows(8, rank=Rank(1, 2), micro=2)
        [[2, 3], [6, 7]]
    """
    parts = []
    for block in micro_slices(total, micro):
        rows = range(block.start, block.stop)
        parts.append(list(rows[blocks(len(rows), rank.count)[rank.number]]))
    return parts


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the ranks that share the batch; of equal shape on each."""
    if _share is None or len(_share.sizes) == 1:
        return values
    result: Tensor = _Summed.apply(values, len(_share.sizes))
    return result


def ratio(numerator: Tensor, denominator: Tensor, *, least: float = 0.0) -> Tensor:
    """Divide two sums over the rows of the batch, the second of at least ``least``."""
    if _share is not None and len(_share.sizes) > 1:
        numerator, denominator = sum_over_ranks(torch.stack([numerator, denominator])).unbind()
    return numerator / (denominator.clamp(min=least) if least else denominator)


def mean(values: Tensor) -> Tensor:
    """Return the mean of all values of the batch, of which these are the rank's."""
    if _share is None or len(_share.sizes) == 1:
        return values.mean()
    return ratio(values.sum(), values.new_tensor(values.numel()))


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows ``(N, ...)`` of the batch, of which ``(n, ...)`` are this rank's.

    The rows of a rank that has none are left out.
    """
    if _share is None or len(_share.sizes) == 1:
        return rows
    result: Tensor = _Gathered.apply(rows, _share)
    return result


def draw_rows(draw: Callable[..., Tensor], rows: int, *shape: int, **options: Any) -> Tensor:
    """Draw random numbers for the rows of this rank, as one process draws them for the batch.

    Args:
        draw: of ``torch``, by the size of what is drawn.
        rows: of this rank.
        shape: of a row.
        options: of ``draw``.
    """
    if _share is None or len(_share.sizes) == 1:
        return draw(rows, *shape, **options)
    return _of_rank(draw(_share.total, *shape, **options), rows, _share)


def noise_like(rows: Tensor) -> Tensor:
    """Draw standard normal noise ``(n, ...)`` as ``torch.randn_like`` does for the whole batch."""
    if _share is None or len(_share.sizes) == 1:
        return torch.randn_like(rows)
    # The order in which numbers are drawn depends on how the values lie in memory.
    batch = rows.new_empty_strided((_share.total, *rows.shape[1:]), rows.stride())
    return _of_rank(torch.randn_like(batch), len(rows), _share)


def _of_rank(batch: Tensor, rows: int, share: Share) -> Tensor:
    """Return a rank's rows; those of a rank that has none count for nothing."""
    return batch[share.rows] if share.sizes[share.rank.number] else batch[:rows]


def from_first_rank(*values: float) -> tuple[float, ...]:
    """Return the values of the first rank, on which all decide alike."""
    if _rank.count == 1:
        return values
    message = torch.tensor(values, dtype=torch.float64, device=_exchanging())
    dist.broadcast(message, src=0)
    return tuple(message.tolist())


def _everyones(rows: int) -> list[int]:
    message = torch.zeros(_rank.count, dtype=torch.int64, device=_exchanging())
    message[_rank.number] = rows
    dist.all_reduce(message)
    return [int(size) for size in message.tolist()]


def _exchanging() -> torch.device:
    """The device whose tensors the process group exchanges."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


class _Summed(torch.autograd.Function):
    """Sum over ranks; each computes the same of it, so that the gradients are equal."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, count: int) -> Tensor:
        ctx.count = count
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.count, None


class _Gathered(torch.autograd.Function):
    """Rows of all ranks; each computes the same of them, so that the gradients are equal."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, share: Share) -> Tensor:
        ctx.share, ctx.rows = share, len(rows)
        # Of one length, which the collectives of all backends take.
        count = share.sizes[share.rank.number]
        padded = rows.new_zeros((max(share.sizes), *rows.shape[1:]))
        padded[:count] = rows[:count]
        parts = [torch.empty_like(padded) for _ in share.sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, share.sizes)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        share: Share = ctx.share
        gradient = gradients[0].new_zeros((ctx.rows, *gradients[0].shape[1:]))
        part = gradients[0][share.rows]
        gradient[: len(part)] = part * len(share.sizes)
        return gradient, None
