"""Tell whether a matrix holds the counts of a pattern, and in which direction amplitudes grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A pattern has at least so many rows and columns, at most so many, and a share of empty cells.
LEAST_PATTERN, _MOST_PATTERN, _EMPTY = 16, 4096, 0.5
# Rows of a dense pattern go from few counts to many, one after the other.
_RISING, _ORDERED = 4.0, 0.9
# Share of the counts in a quarter of the amplitudes, or in the quarter of the first rows.
_AT_ONE_END, _IN_FIRST_ROWS = 0.6, 0.35

Counts = NDArray[np.float64]


def like_pattern(values: Counts, *, whole: bool) -> bool:
    """Return whether a matrix is mostly empty; ``whole``: and holds whole numbers alone."""
    return (
        min(values.shape) >= LEAST_PATTERN
        and max(values.shape) <= _MOST_PATTERN
        and bool((values >= 0).all())
        and float((values == 0).mean()) >= _EMPTY
        and (not whole or bool((values == np.rint(values)).all()))
    )


def rising_rows(values: Counts) -> bool:
    """Return whether rows are as those of a dense pattern: from few counts to many, in order.

    Mains cycles that follow each other have sums of like size.
    """
    if min(values.shape) < LEAST_PATTERN or max(values.shape) > _MOST_PATTERN or (values < 0).any():
        return False
    sums = np.log(values.sum(axis=1) + 1)
    if np.ptp(sums) < np.log(_RISING):
        return False
    ranks = np.argsort(np.argsort(sums))
    return abs(float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])) > _ORDERED


def likely_direction(values: Counts) -> str:
    """Return where amplitudes grow to by the counts: ``up`` unless another one is likelier.

    Small pulses are commoner than large ones, and the phases of pulses go around. The others are
    ``down``, ``right`` and ``left``.
    """
    shares = {name: _end_share(values, name) for name in ("up", "down", "right", "left")}
    likely = max(shares, key=lambda name: shares[name])
    if shares[likely] >= _AT_ONE_END and shares["up"] <= shares[likely] / 2:
        return likely
    # Phases gather in a quarter of a cycle by themselves; the first rows have fewer by usage.
    first = shares["down"] >= _IN_FIRST_ROWS and shares["up"] <= shares["down"] / 2
    return "down" if first else "up"


def _end_share(values: Counts, grows: str) -> float:
    """Return the share of the counts in the quarter with the smallest amplitudes."""
    turned = {"up": values[::-1], "down": values, "right": values.T, "left": values.T[::-1]}[grows]
    return float(turned[: -(-len(turned) // 4)].sum() / values.sum())
