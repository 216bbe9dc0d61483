"""Nearest rows of a table: exact by torch or faiss, approximate by indices of faiss."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiasm.errors import ConfigurationError
from chiasm.training.device import in_chunks, rows_at_once

Approximate = Literal["faiss_ivf", "faiss_hnsw"]

Nearest = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]

_CELLS = 1 << 23  # of a table of distances, 32 MiB

_LINKS = 16  # of a node of HNSW; twice as many on the lowest level

_LEAST_PER_LIST = 39  # training rows for each list of IVF, as faiss wants them


def nearest_by_torch(query: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find squared distances and numbers ``(Q, count)`` of the nearest rows, chunk by chunk."""
    squares = (rows * rows).sum(dim=1)

    def search(chunk: slice) -> tuple[Tensor, Tensor]:
        part = query[chunk]
        squared = torch.addmm(squares, part, rows.T, alpha=-2)
        nearest = squared.topk(count, dim=1, largest=False)
        query_square = (part * part).sum(dim=1, keepdim=True)
        return (nearest.values + query_square).clamp_(min=0), nearest.indices

    return _joined(search, query, count, row_bytes=4 * len(rows), usual=_CELLS // len(rows))


def nearest_by_faiss(query: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As ``nearest_by_torch``, by faiss's exact search over the rows without a copy."""
    distances, numbers = find_faiss().knn(_array(query), _array(rows), count)
    return torch.from_numpy(distances).to(query), torch.from_numpy(numbers).to(query.device)


def nearest_outside(
    nearest: Nearest, query: Tensor, rows: Tensor, start: int, stop: int, count: int
) -> Tensor:
    """Find the numbers ``(Q, count)`` of the nearest rows outside ``start:stop``."""
    distances, numbers = [], []
    for offset, part in ((0, rows[:start]), (stop, rows[stop:])):
        if len(part):
            distance, number = nearest(query, part, min(count, len(part)))
            distances.append(distance)
            numbers.append(number + offset)
    order = torch.cat(distances, dim=1).topk(count, dim=1, largest=False).indices
    return torch.cat(numbers, dim=1).gather(1, order)


def by_distance(query: Tensor, rows: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find distances and numbers ``(Q, count)`` of the nearest among candidates ``(Q, K)``.

    Distances are computed from differences: the expanded squares lose small distances.
    """
    compared = numbers.shape[1] * rows.shape[1]

    def measure(chunk: slice) -> tuple[Tensor, Tensor]:
        return (query[chunk, None] - rows[numbers[chunk]]).norm(dim=2), numbers[chunk]

    usual = _CELLS // max(1, compared)
    distance, _ = _joined(measure, query, numbers.shape[1], row_bytes=8 * compared, usual=usual)
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :count], numbers.gather(1, order[:, :count])


def _joined(
    search: Callable[[slice], tuple[Tensor, Tensor]],
    query: Tensor,
    count: int,
    *,
    row_bytes: int,
    usual: int,
) -> tuple[Tensor, Tensor]:
    """Join distances and numbers ``(Q, count)`` of chunks of a query, as many as there is room."""
    if not len(query):
        return query.new_zeros(0, count), query.new_zeros(0, count, dtype=torch.int64)
    size = rows_at_once(query.device, row_bytes, usual=max(1, usual))
    distances, numbers = zip(*in_chunks(search, len(query), size))
    return torch.cat(distances), torch.cat(numbers)


class ApproximateIndex:
    """An index of faiss over a copy of the rows: fast, sometimes without the true neighbour.

    Args:
        kind: ``"faiss_ivf"`` (inverted lists, square root of M of them) or ``"faiss_hnsw"``.
        rows: ``(M, D)``.
        probes: lists that IVF visits; an eighth of the candidates that HNSW keeps.

    Attributes:
        nbytes: bytes of the index as faiss serialises it. The index is read back from that form,
            because growing lists hold up to twice what they need.

    References:
        Jegou et al., Product Quantization for Nearest Neighbor Search, TPAMI 2011 (inverted lists);
        Malkov, Yashunin, Hierarchical Navigable Small World Graphs, TPAMI 2020.
    """

    def __init__(self, kind: Approximate, rows: Tensor, *, probes: int) -> None:
        faiss = find_faiss()
        count, dimension = rows.shape
        if kind == "faiss_ivf":
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatL2(dimension), dimension, _lists(count), faiss.METRIC_L2
            )
            index.train(_array(rows))
        else:
            index = faiss.IndexHNSWFlat(dimension, _LINKS)
            index.hnsw.efConstruction = 80
        index.add(_array(rows))
        serialised = faiss.serialize_index(index)
        del index
        self.nbytes = int(serialised.nbytes)
        self._index: Any = faiss.deserialize_index(serialised)
        self._kind = kind
        self._probes = probes

    def search(self, query: Tensor, start: int, stop: int, count: int) -> Tensor:
        """Find numbers ``(Q, count)`` of near rows outside ``start:stop``; -1 for too few."""
        faiss = find_faiss()
        settings: dict[str, Any] = {}
        if stop > start:
            excluded = faiss.IDSelectorRange(start, stop)
            settings["sel"] = faiss.IDSelectorNot(excluded)
        if self._kind == "faiss_ivf":
            parameters = faiss.SearchParametersIVF(nprobe=self._probes, **settings)
        else:
            width = max(8 * self._probes, 2 * count)
            parameters = faiss.SearchParametersHNSW(efSearch=width, **settings)
        _, numbers = self._index.search(_array(query), count, params=parameters)
        return torch.from_numpy(numbers).to(query.device)


def most_bytes(kind: str, count: int, dimension: int) -> int:
    """Bound the bytes of an index of ``count`` rows; 0 for the kinds that need none."""
    if kind == "faiss_ivf":
        return count * (4 * dimension + 8) + _lists(count) * (4 * dimension + 16) + 1024
    if kind == "faiss_hnsw":
        # Links below, offset, level; the levels above hold 16 links for one row in 16.
        return count * (4 * dimension + 8 * _LINKS + 12 + 8) + 8192
    return 0


def find_faiss() -> Any:
    """Import faiss; ``ConfigurationError`` says how to install it."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigurationError(
            "The setting index names an index of faiss, and faiss is not installed; run "
            "pip install 'chiasm[rivals]', or take index='torch'."
        ) from error


def _lists(count: int) -> int:
    return max(1, min(round(math.sqrt(count)), count // _LEAST_PER_LIST))


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)


_BLOCK = 128


@torch.no_grad()
def greedy_k_centres(points: Tensor, count: int, *, first: int = 0) -> Tensor:
    """Choose the point farthest from all chosen ones, ``count`` times.

    The covering radius is at most twice the best possible (Gonzalez 1985). A block of the farthest
    points serves as candidates, whose distances to all points are one product. Points are chosen
    from a block while the best of them is no nearer than any other point, so that the order is
    that of one choice at a time.

    Args:
        points: ``(M, D)``.
        count: centres; all points where there are fewer.
        first: number of the first centre.

    Returns:
        ``(count,)`` int64 numbers of the centres in the order of choice, each once.

    References:
        Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985; Sener, Savarese,
        Active Learning for CNNs: A Core-Set Approach, ICLR 2018.
    """
    count = min(count, len(points))
    points = points - points.mean(dim=0)  # small squares lose less to rounding
    squares = (points * points).sum(dim=1)
    distance = points.new_full((len(points),), float("inf"))  # squared; -1 once chosen
    candidates = torch.tensor([first], device=points.device)
    chosen: list[int] = []
    while len(chosen) < count:
        if chosen:
            candidates = distance.topk(min(_BLOCK, len(points))).indices
        table = torch.addmm(squares, points[candidates], points.T, alpha=-2)
        table.add_(squares[candidates, None]).clamp_(min=0)
        remaining = distance[candidates].cpu().numpy().copy()
        mutual = table[:, candidates].cpu().numpy()
        bound = max(float(remaining[-1]), 0.0)  # no other point is farther than the last candidate
        picked: list[int] = []
        while len(chosen) + len(picked) < count:
            best = int(remaining.argmax())
            if remaining[best] < bound:
                break
            picked.append(best)
            remaining = np.minimum(remaining, mutual[best])
            remaining[best] = -1
        rows = torch.tensor(picked, device=points.device)
        distance = torch.minimum(distance, table[rows].amin(dim=0))
        distance[candidates[rows]] = -1
        chosen += candidates[rows].tolist()
    return torch.tensor(chosen, dtype=torch.int64, device=points.device)
