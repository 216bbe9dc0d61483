"""Where a pattern begins, told by the pattern itself: for recordings without a known phase.

A monitoring unit often takes its phase from the nearest socket, which may be another conductor's.
Rolling views by any angle teaches a network to disregard the phase; turning every pattern to a
place of its own keeps what the phase still says: how its parts lie to each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Below this share of the second harmonic the first one says too little to turn by.
_LEAST_FIRST = 0.5


def phase_reference(weights: NDArray[np.floating]) -> float:
    """The turn, as a share of a cycle in [0, 1), at which a pattern is centred.

    Where one half of the cycle outweighs the other (corona), it is the angle of the first harmonic.
    Where both are alike (discharges of a void, twice a cycle), it is that of the second harmonic,
    and of its two answers the one on the heavier side.

    Args:
        weights: ``(P,)`` what there is at each of P phases, at least 0.

    Returns:
        0 where nothing is there. Rolling the pattern by ``r`` of a cycle adds ``r`` to it.
    """
    turns = np.exp(2j * np.pi * np.arange(len(weights)) / len(weights))
    first, second = complex(weights @ turns), complex(weights @ turns**2)
    if abs(first) > _LEAST_FIRST * abs(second):
        angle = float(np.angle(first))
    elif abs(second) > 0:
        angle = float(np.angle(second)) / 2
        if (first * np.exp(-1j * angle)).real < 0:
            angle += np.pi
    else:
        return 0.0
    return angle / (2 * np.pi) % 1.0


def aligned_series(cells: NDArray[np.float32], *, cycle: int, step: int) -> NDArray[np.float32]:
    """Roll a series ``(C, L)`` of counts so that its own reference comes to phase 0.

    Args:
        cells: counts; every channel is rolled alike.
        cycle: values to a mains cycle.
        step: the roll is a multiple of so many values, which belong together.
    """
    whole = cells.shape[1] // cycle * cycle
    if not whole or cycle % step:
        return cells
    by_phase = cells[:, :whole].reshape(-1, cycle).sum(axis=0)
    groups = np.log1p(by_phase.reshape(-1, step).sum(axis=1))
    return np.roll(cells, -round(phase_reference(groups) * len(groups)) * step, axis=1)


def aligned_picture(ink: NDArray[np.float32], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Roll a picture ``(H, W, 3)`` of one cycle so that its own reference comes to the left edge.

    Args:
        ink: the picture.
        weights: ``(W,)`` pulses in each column.
    """
    reference = phase_reference(np.log1p(weights))
    return np.roll(ink, -round(reference * ink.shape[1]), axis=1)
