"""P-values of several comparisons at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from chiasm.errors import DataError


def holm(p_values: ArrayLike) -> list[float]:
    """Adjust p-values so that the chance of even one false finding stays below the level.

    Args:
        p_values: ``(M,)`` in [0, 1].

    Returns:
        Adjusted ones in the same order; none is smaller than before.

    Raises:
        DataError: one is NaN or outside [0, 1].

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
        Statistics, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise DataError(f"P-values lie in [0, 1], one for each comparison, not {given.tolist()}.")
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(given.size, 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]
