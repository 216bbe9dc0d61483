"""Whether what recordings say changed for good, or for once.

A classifier errs now and then, so that one recording of another class is no change. Of a row of
them it is asked how often it would come by chance, at the share that they had before.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 3  # recordings in a row
REFERENCE = 5  # recordings before the row, at least


def persists(before: Sequence[bool], row: int, *, rate: float, least: int = LEAST) -> bool:
    """Return whether a row of equal recordings is more than chance.

    Args:
        before: of each recording before the row, whether it was like those of the row.
        row: number of recordings that are alike now.
        rate: share of sequences without change that may have such a row anywhere. It is kept where
            one in five recordings or less was like those of the row before; where it was two in
            five, up to twice as many have one (measured on made sequences of 30).
        least: number of recordings that a row has at least.

    Example:
        >>> persists([False] * 20, 3, rate=0.01), persists([False, True] * 10, 3, rate=0.01)
        (True, False)
    """
    if row < least or len(before) < REFERENCE:
        return False
    # What never was is not impossible.
    share = (sum(before) + 1) / (len(before) + 1.5)
    return (len(before) + row) * share**row <= rate
