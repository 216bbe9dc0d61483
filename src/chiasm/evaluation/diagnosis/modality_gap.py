"""How far apart two modalities lie in one space of embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from chiasm.errors import DataError

_SAMPLED = 1000


def modality_gap(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> dict[str, float]:
    """Return three measures of the gap; none changes when both are scaled or rotated together.

    ``distance``: between the means, in root mean square distances of a point from its own mean;
    0 is none. ``variance_ratio``: of the first's total variance to the second's; 1 is alike.
    ``mmd``: maximum mean discrepancy, squared and unbiased, so that it can fall a little below 0;
    0 is alike, 1 far apart.

    Args:
        first: ``(N, D)``.
        second: ``(M, D)``.
        seed: of the draw, where there are more than 1000 points.

    Raises:
        DataError: shapes do not fit, or fewer than two points are in one of them.

    References:
        Gretton et al., A Kernel Two-Sample Test, JMLR 2012, lemma 6; Gaussian kernel with the
        median distance of all pairs as its width.
        Liang et al., Mind the Gap, NeurIPS 2022.
    """
    one, two = (np.asarray(values, np.float64) for values in (first, second))
    if (
        one.ndim != 2
        or two.ndim != 2
        or one.shape[1] != two.shape[1]
        or min(len(one), len(two)) < 2
    ):
        raise DataError(
            f"A gap is measured between (N, D) and (M, D) embeddings, at least two each, not "
            f"between {one.shape} and {two.shape}."
        )
    spread = [float(values.var(axis=0, ddof=1).sum()) for values in (one, two)]
    apart = float(np.linalg.norm(one.mean(axis=0) - two.mean(axis=0)))
    own = float(np.sqrt(sum(spread) / 2))
    return {
        "distance": apart / own if own else float("nan"),
        "variance_ratio": spread[0] / spread[1] if spread[1] else float("nan"),
        "mmd": _mmd(_some(one, seed), _some(two, seed)),
    }


def _some(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    if len(values) <= _SAMPLED:
        return values
    return values[np.random.default_rng(seed).choice(len(values), _SAMPLED, replace=False)]


def _mmd(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    both = np.concatenate([one, two])
    squared = cdist(both, both, "sqeuclidean")
    width = float(np.median(squared[np.triu_indices(len(both), 1)]))
    if width == 0:
        return float("nan")
    kernel = np.exp(-squared / (2 * width))
    n, m = len(one), len(two)
    inside = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(inside - 2 * kernel[:n, n:].mean())
