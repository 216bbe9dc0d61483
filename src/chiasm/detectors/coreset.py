"""Greedy k-centre: few points such that no point is far from all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_BLOCK = 128


@torch.no_grad()
def greedy_k_centres(points: Tensor, count: int, *, first: int = 0) -> Tensor:
    """Choose the point farthest from all chosen ones, ``count`` times.

    The covering radius is at most twice the best possible (Gonzalez 1985). The farthest points
    are taken as candidates by the block and their distances to all computed in one product; they
    are chosen from as long as the best of them is no nearer than any other point, so the order is
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
        left = distance[candidates].cpu().numpy().copy()
        mutual = table[:, candidates].cpu().numpy()
        bound = max(float(left[-1]), 0.0)  # no other point is farther than the last candidate
        picked: list[int] = []
        while len(chosen) + len(picked) < count:
            best = int(left.argmax())
            if left[best] < bound:
                break
            picked.append(best)
            left = np.minimum(left, mutual[best])
            left[best] = -1
        rows = torch.tensor(picked, device=points.device)
        distance = torch.minimum(distance, table[rows].amin(dim=0))
        distance[candidates[rows]] = -1
        chosen += candidates[rows].tolist()
    return torch.tensor(chosen, dtype=torch.int64, device=points.device)
