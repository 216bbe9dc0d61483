"""A bank of descriptors of normal parts under a byte budget, and its nearest neighbours."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.detection.layers.nearest import (
    ApproximateIndex,
    by_distance,
    find_faiss,
    greedy_k_centres,
    most_bytes,
    nearest_by_faiss,
    nearest_by_torch,
    nearest_outside,
)
from chiasm.errors import ArtifactError, ConfigurationError, DataError

Selection = Literal["random", "coreset"]
Index = Literal["torch", "faiss_flat", "faiss_ivf", "faiss_hnsw"]

MEGABYTE = 1_000_000
_OWNER_BYTES = 8
_LEAST_ROWS = 8
_SPARE = 4  # extra neighbours, since rounding may misplace some


class MemoryBank(nn.Module):
    """Descriptors of normal parts that take at most ``bank_mb``, with the index they need.

    Fill it with ``add``, batch by batch, call ``finish``, then query it. Its content depends on the
    descriptors, their order and the seed, never on the batches; a bank with room for all keeps all.

    ``"random"`` keeps every descriptor with the same probability. ``"coreset"`` keeps those that
    cover the rest: whenever the bank is full, greedy k-centre halves it and the stream continues
    (merge and reduce), so that the finished bank is between half full and full. Halving compares
    ``projection`` random directions of the descriptors, if given. The budget covers the stored
    descriptors: halving and finishing temporarily need a copy.

    Args:
        dimension: length of a descriptor.
        bank_mb: megabytes (1,000,000 bytes) that descriptors, owners and index may take.
        selection: rule that selects the descriptors.
        index: ``"torch"`` and ``"faiss_flat"`` are exact and need no bytes in addition to the
            descriptors; ``"faiss_ivf"`` and ``"faiss_hnsw"`` are approximate and hold a copy, so
            about half as many descriptors fit.
        projection: dimensions of the random projection for the coreset; None for none.
        probes: cells that ``"faiss_ivf"`` visits, and an eighth of ``"faiss_hnsw"``'s list.
        seed: of the reservoir, the projection and the first centre.

    Raises:
        ConfigurationError: a setting out of range, a budget below eight descriptors, or an index
            of faiss while faiss is not installed.

    References:
        Vitter, Random Sampling with a Reservoir, TOMS 1985; Sener, Savarese, Active Learning for
        CNNs: A Core-Set Approach, ICLR 2018; Roth et al., Towards Total Recall in Industrial
        Anomaly Detection, CVPR 2022; Johnson, Douze, Jegou, Billion-Scale Similarity Search with
        GPUs, 2019.
    """

    descriptors: Tensor
    owner: Tensor

    def __init__(
        self,
        dimension: int,
        *,
        bank_mb: float,
        selection: Selection = "coreset",
        index: Index = "torch",
        projection: int | None = None,
        probes: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_choice("selection", selection, ("random", "coreset"))
        _check_choice("index", index, ("torch", "faiss_flat", "faiss_ivf", "faiss_hnsw"))
        for name, value in (
            ("dimension", dimension),
            ("projection", projection),
            ("probes", probes),
        ):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} is {value}; it must be at least 1.")
        if index != "torch":
            find_faiss()
        self.dimension = dimension
        self.budget = int(bank_mb * MEGABYTE)
        self.selection = selection
        self.index = index
        self.projection = projection
        self.probes = probes
        self.seed = seed
        self.capacity = bisect_right(
            range(1, self.budget // (4 * dimension) + 1), self.budget, key=self._bytes_of
        )
        if self.capacity < _LEAST_ROWS:
            least = math.ceil(self._bytes_of(_LEAST_ROWS) / MEGABYTE * 10_000) / 10_000
            raise ConfigurationError(
                f"bank_mb={bank_mb:g} holds {self.capacity} descriptors of {dimension} values with "
                f"index={index!r}; a bank needs {_LEAST_ROWS}. Set bank_mb to {least:g} or more."
            )
        self.register_buffer("descriptors", torch.zeros(0, dimension))
        self.register_buffer("owner", torch.zeros(0, dtype=torch.int64))
        self._pool: Tensor | None = None
        self._pool_owner: Tensor | None = None
        self._filled = 0
        self._seen = 0
        self._generator = np.random.default_rng(seed)
        self._built: ApproximateIndex | None = None

    def __len__(self) -> int:
        return len(self.descriptors) or self._filled

    @property
    def bytes_used(self) -> int:
        """Current bytes of the descriptors, their owners and the index."""
        index = 0 if self._built is None else self._built.nbytes
        return len(self) * (4 * self.dimension + _OWNER_BYTES) + index

    @torch.no_grad()
    def add(self, descriptors: Tensor, owners: Tensor) -> None:
        """Add the next descriptors of the stream.

        Args:
            descriptors: ``(M, D)``; any M.
            owners: ``(M,)`` number of the training part of each.

        Raises:
            DataError: another shape, values not finite, or a bank that is finished.
        """
        if len(self.descriptors):
            raise DataError("The bank is finished; build a new one to add descriptors.")
        self._check(descriptors)
        if owners.shape != descriptors.shape[:1]:
            raise DataError(
                f"There are {len(descriptors)} descriptors and owners of shape "
                f"{tuple(owners.shape)}; every descriptor has one owner."
            )
        if self._pool is None or self._pool_owner is None:
            self._pool = descriptors.new_empty(self.capacity, self.dimension, dtype=torch.float32)
            self._pool_owner = owners.new_empty(self.capacity, dtype=torch.int64)
        while len(descriptors):
            if self._filled == self.capacity:
                if self.selection == "random":
                    self._replace(descriptors, owners)
                    return
                self._halve()
            room = min(self.capacity - self._filled, len(descriptors))
            rows = slice(self._filled, self._filled + room)
            self._pool[rows], self._pool_owner[rows] = descriptors[:room], owners[:room]
            self._filled += room
            self._seen += room
            descriptors, owners = descriptors[room:], owners[room:]

    @torch.no_grad()
    def finish(self) -> None:
        """End the stream and build the index; raises ``DataError`` if nothing was added."""
        if self._pool is None or self._pool_owner is None or self._filled == 0:
            raise DataError("The bank is empty; add descriptors of normal parts before finish.")
        # Sorted by owner, an owner's entries are one slice, which a query can exclude.
        order = self._pool_owner[: self._filled].argsort(stable=True)
        self.descriptors, self.owner = self._pool[order], self._pool_owner[order]
        self._pool = self._pool_owner = None
        self._approximate_index()

    @torch.no_grad()
    def forward(
        self, query: Tensor, owners: Tensor | None = None, *, count: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Find the nearest descriptors of the bank, nearest first.

        Args:
            query: ``(Q, D)``.
            owners: ``(Q,)`` numbers of training parts whose entries are left out, -1 for none.
            count: neighbours.

        Returns:
            Euclidean distances ``(Q, count)`` and numbers ``(Q, count)`` of rows of the bank.

        Raises:
            ConfigurationError: fewer than one neighbour, or more than there are entries.
            DataError: a bank that is not finished, or a query of another shape or not finite.
        """
        if count < 1:
            raise ConfigurationError(f"count is {count}; it must be at least 1 nearest neighbour.")
        if not len(self.descriptors):
            raise DataError("The bank is not finished; call finish before querying neighbours.")
        self._check(query)
        numbers = torch.zeros(len(query), count, dtype=torch.int64, device=query.device)
        distances = query.new_zeros(len(query), count)
        if owners is None:
            owners = torch.full((len(query),), -1, device=query.device)
        for part in owners.unique().tolist():
            ends = torch.tensor([part, part + 1], device=self.owner.device)
            start, stop = torch.searchsorted(self.owner, ends).tolist() if part >= 0 else (0, 0)
            available = len(self.descriptors) - (stop - start)
            if available < count:
                without = f" without those of part {part}" if stop > start else ""
                raise ConfigurationError(
                    f"count is {count}, but the bank has {available} entries{without}; query fewer "
                    "neighbours or fill the bank with more parts."
                )
            of_part = owners == part
            rows = query[of_part]
            candidates = self._search(rows, start, stop, min(count + _SPARE, available))
            distances[of_part], numbers[of_part] = by_distance(
                rows, self.descriptors, candidates, count
            )
        return distances, numbers

    def _search(self, query: Tensor, start: int, stop: int, count: int) -> Tensor:
        """Numbers ``(Q, count)`` of the nearest entries outside ``start:stop``."""
        rows = self.descriptors
        index = self._approximate_index()
        if index is None:
            nearest = nearest_by_torch if self.index == "torch" else nearest_by_faiss
            return nearest_outside(nearest, query, rows, start, stop, count)
        numbers = index.search(query, start, stop, count)
        # Few queries meet lists or paths with too few entries; these are searched exactly.
        short = (numbers < 0).any(dim=1)
        if short.any():
            exact = nearest_outside(nearest_by_torch, query[short], rows, start, stop, count)
            numbers[short] = exact
        return numbers

    def _approximate_index(self) -> ApproximateIndex | None:
        """The index of faiss, built once; None for an exact search."""
        if self._built is None and self.index != "torch" and self.index != "faiss_flat":
            self._built = ApproximateIndex(self.index, self.descriptors, probes=self.probes)
            if self.bytes_used > self.budget:
                raise ConfigurationError(
                    f"The bank takes {self.bytes_used} bytes, more than its budget of "
                    f"{self.budget}; set bank_mb to {1.05 * self.bytes_used / MEGABYTE:.4f}."
                )
        return self._built

    def _replace(self, descriptors: Tensor, owners: Tensor) -> None:
        """Vitter's algorithm R: row number t replaces a random one with probability C / (t + 1)."""
        assert self._pool is not None and self._pool_owner is not None
        seen = self._seen + np.arange(1, len(descriptors) + 1)
        drawn = (self._generator.random(len(descriptors)) * seen).astype(np.int64)
        self._seen += len(descriptors)
        # Of several rows for one slot the last stays, as if they had been added one by one.
        slots, last = np.unique(drawn[::-1], return_index=True)
        within = slots < self.capacity
        slot = torch.from_numpy(slots[within]).to(self._pool.device)
        row = torch.from_numpy(len(drawn) - 1 - last[within])
        self._pool[slot] = descriptors[row.to(descriptors.device)].to(self._pool)
        self._pool_owner[slot] = owners[row.to(owners.device)].to(self._pool_owner)

    def _halve(self) -> None:
        assert self._pool is not None and self._pool_owner is not None
        points = self._pool
        if self.projection is not None and self.projection < self.dimension:
            generator = torch.Generator().manual_seed(self.seed)
            directions = torch.randn(self.dimension, self.projection, generator=generator)
            points = points @ directions.to(points) / self.projection**0.5
        first = int(self._generator.integers(self.capacity))
        chosen = greedy_k_centres(points, max(1, self.capacity // 2), first=first)
        chosen = chosen.sort().values
        self._filled = len(chosen)
        self._pool[: self._filled] = self._pool[chosen]
        self._pool_owner[: self._filled] = self._pool_owner[chosen]

    def _bytes_of(self, count: int) -> int:
        rows = count * (4 * self.dimension + _OWNER_BYTES)
        return rows + most_bytes(self.index, count, self.dimension)

    def _check(self, descriptors: Tensor) -> None:
        if descriptors.dim() != 2 or descriptors.shape[1] != self.dimension:
            raise DataError(
                f"Descriptors have shape {tuple(descriptors.shape)}; this bank takes "
                f"(count, {self.dimension})."
            )
        if not torch.isfinite(descriptors).all():
            raise DataError("Descriptors hold NaN or infinite values; exclude those pixels.")

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # The bank's length is known after fitting only, so buffers take the stored shapes.
        stored = state_dict.get(prefix + "descriptors")
        if stored is not None:
            if stored.shape[1] != self.dimension or len(stored) > self.capacity:
                raise ArtifactError(
                    f"The stored bank has {len(stored)} descriptors of {stored.shape[1]} values; "
                    f"this one takes at most {self.capacity} of {self.dimension}. Build it with "
                    "the dimension, bank_mb and index that it was stored with."
                )
            self.descriptors = self.descriptors.new_empty(stored.shape)
            self.owner = self.owner.new_empty(len(stored))
            self._pool = self._pool_owner = self._built = None
            self._filled = 0
        super()._load_from_state_dict(state_dict, prefix, *args)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} is {value!r}; it is one of {', '.join(choices)}.")
