"""Tails of the binomial distribution, without SciPy, which a station does not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 80  # of [0, 1]: more than a double can tell apart


def binomial_tail(trials: int, chance: float) -> NDArray[np.float64]:
    """Return ``(n,)`` probabilities of at least 1, 2, ..., n successes.

    Args:
        trials: ``n``, at least 1.
        chance: of a success, in [0, 1].

    Example:
        >>> binomial_tail(2, 0.5)
        array([0.75, 0.25])
    """
    if not 0 < chance < 1:
        return np.full(trials, float(chance >= 1))
    numbers = np.arange(1, trials + 1, dtype=np.float64)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(numbers))])
    counts = np.arange(trials + 1)
    log_terms = (
        factorials[-1]
        - factorials
        - factorials[::-1]
        + counts * np.log(chance)
        + counts[::-1] * np.log1p(-chance)
    )
    # From the rare end, so that small tails keep their digits.
    tails = np.cumsum(np.exp(log_terms)[::-1])[::-1]
    return np.asarray(np.minimum(tails[1:], 1.0))


def beta_quantile(trials: int, rank: int, share: float) -> float:
    """Return the chance at which at least ``rank`` successes have probability ``share``.

    That is the quantile of the beta distribution with parameters ``rank`` and
    ``trials + 1 - rank``.

    Args:
        trials: ``n``.
        rank: of 1 to ``n``.
        share: in (0, 1).

    Example:
        >>> round(beta_quantile(1, 1, 0.9), 12)
        0.9
    """
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if binomial_tail(trials, middle)[rank - 1] < share:
            low = middle
        else:
            high = middle
    return high
