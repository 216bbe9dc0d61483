"""Distances to several memories as one: linear one-class machines that learn from normals.

References:
    Wang et al., Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023, Section 3.4;
    Schoelkopf et al., Estimating the Support of a High-Dimensional Distribution, 2001.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from chiasm.errors import ConfigurationError

Rule = Literal["map", "paper"]
RULES = ("map", "paper")


class DecisionLayer(nn.Module):
    """Weighs the distances of patches, and of parts, from what is normal.

    Args:
        banks: memories whose distances are weighed, B.
        rule: ``"paper"`` weighs distances as they are, those of patches by one machine and a
            part's largest ones by another. ``"map"`` takes each distance in units of its spread
            over normal patches, and leaves a part's score to its map.

    Raises:
        ConfigurationError: there is no such rule.
    """

    def __init__(self, banks: int, *, rule: Rule = "map") -> None:
        super().__init__()
        if rule not in RULES:
            raise ConfigurationError(f"decision is {rule!r}; it is one of {', '.join(RULES)}.")
        self.rule = rule
        self.register_buffer("unit", torch.ones(banks))
        self.register_buffer("patch_weights", torch.ones(banks))
        self.register_buffer("part_weights", torch.ones(banks))

    @torch.no_grad()
    def fit(self, patches: Tensor, parts: Tensor) -> None:
        """Learn from distances of normal patches ``(M, B)`` and of normal parts ``(N, B)``."""
        if self.rule == "map":
            self.unit.copy_(patches.std(dim=0, correction=0).clamp(min=1e-6))
        self.patch_weights.copy_(one_class_weights(patches / self.unit))
        self.part_weights.copy_(one_class_weights(parts / self.unit))

    def of_patches(self, distances: Tensor) -> Tensor:
        """Scores ``(M,)`` of patches' distances ``(M, B)``."""
        return (distances / self.unit) @ self.patch_weights

    def of_parts(self, distances: Tensor) -> Tensor:
        """Scores ``(N,)`` of parts' distances ``(N, B)``."""
        return (distances / self.unit) @ self.part_weights


def one_class_weights(distances: Tensor, *, nu: float = 0.5) -> Tensor:
    """Weights ``(B,)`` of a linear one-class machine on ``(M, B)``, at least 0, of sum B.

    The machine's problem is solved for its normal alone, whose best offset is the ``nu`` quantile
    of what it weighs: half its squared length minus the mean of the share ``nu`` of normals that
    lie nearest to 0. The offset changes no order and is left out. A weight below 0 would call a
    part the more normal the farther it is from normal, so none is allowed. With one bank there is
    nothing to weigh.
    """
    count = distances.shape[1]
    if count == 1:
        return torch.ones(1)
    rows = distances.cpu().numpy().astype(np.float64)
    # One unit for all of them changes no direction.
    rows = rows / max(float(np.abs(rows).mean()), 1e-12)
    nearest = max(1, round(nu * len(rows)))

    def problem(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        lower = rows[np.argpartition(rows @ weights, nearest - 1)[:nearest]].mean(axis=0)
        return 0.5 * float(weights @ weights) - float(lower @ weights), weights - lower

    found = minimize(
        problem, np.ones(count), jac=True, method="L-BFGS-B", bounds=[(0, None)] * count
    )
    weights = torch.from_numpy(found.x).float()
    if not float(weights.sum()) > 0:
        return torch.ones(count)
    return weights * count / weights.sum()
