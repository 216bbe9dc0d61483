"""From the series of any recorder to magnitudes by phase: upward pulses, 128 values to a cycle.

Recorders write magnitudes, signed voltages, negative pulses or levels in decibel, with 20 to 2,000
values to a mains cycle. The rest of the wing counts upward pulses above a quiet level: of another
kind of series it would see half of the pulses, or none. Peaks are held, because a mean over a bin
would flatten a pulse that is shorter than the bin.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import FloatArray

Counts = NDArray[np.uint8 | np.uint16 | np.float32]

Polarity = Literal["unipolar", "bipolar", "negative", "decibel"]
POLARITIES: tuple[Polarity, ...] = get_args(Polarity)

CYCLE = 128  # values to a mains cycle, as most monitors write them

# Robust standard deviations from the quiet level beyond which a value is a pulse.
_PULSE = 6.0
_MAD_TO_SIGMA = 1.4826
# Pulses of the rarer direction, as a share of the commoner one's, from which both count.
_BOTH = 0.05
# Fewer pulses than this say nothing about a direction.
_FEW = 5
# The same of a single recording that contradicts its model: it must do so plainly.
_PLAIN, _MANY = 0.2, 20
# Values of a series that are looked at, evenly spread in runs of whole cycles.
_LOOKED_AT = 200_000

_WORDS = {
    "unipolar": "magnitudes (pulses upwards)",
    "bipolar": "bipolar (pulses in both directions)",
    "negative": "negative (pulses downwards)",
    "decibel": "levels in decibel",
}


def describe(polarity: Polarity) -> str:
    """Return a polarity in words."""
    return _WORDS[polarity]


def recognised_polarity(
    series: Iterable[Counts], *, both: float = _BOTH, few: int = _FEW
) -> Polarity | None:
    """Tell from their values how the series of a data set are written.

    Args:
        series: each ``(C, T)``; a few dozen are enough.
        both: share of the commoner direction's pulses from which the rarer one counts, too.
        few: pulses of a direction that say nothing yet.

    Returns:
        By the direction of the pulses: downward ones alone are ``negative``, and as many that they
        cannot be chance ``bipolar``. Upward ones are ``decibel`` where all values are below 0,
        which no magnitude is, else ``unipolar``. None where there is no pulse and the sign says
        nothing either.
    """
    up = down = 0
    low, high = np.inf, -np.inf
    for counts in series:
        for channel in counts:
            values = channel[: _LOOKED_AT if channel.size > _LOOKED_AT else None]
            values = np.asarray(values, np.float32)
            quiet = float(np.median(values))
            deviation = _MAD_TO_SIGMA * float(np.median(np.abs(values - quiet)))
            least, most = float(values.min()), float(values.max())
            # The deviation of a quiet floor can be 0: its rounding, or a share of the range, is
            # what it varies by at least.
            steps = np.diff(np.unique(values))
            rounding = 0.5 * float(steps.min()) if steps.size else 0.0
            bound = _PULSE * max(deviation + rounding, 0.002 * (most - least), 1e-12)
            up += int(np.count_nonzero(values > quiet + bound))
            down += int(np.count_nonzero(values < quiet - bound))
            low, high = min(low, least), max(high, most)
    if high < 0:  # all below 0: levels in decibel, or pulses downwards
        if up + down < few:
            return None
        return "decibel" if up >= down else "negative"
    if up + down < few:
        return "unipolar" if low >= 0 else None
    if down < max(both * up, few):
        return "unipolar"
    return "negative" if up < max(both * down, few) else "bipolar"


def channels_of(polarity: Polarity, channels: int) -> int:
    """Return the channels of the magnitudes of a series with ``channels``."""
    return 2 * channels if polarity == "bipolar" else channels


def bins_of(total: int, *, per_cycle: int, cycle: int) -> int:
    """Return the values a channel of ``held_peaks``."""
    return total if per_cycle == cycle else total // per_cycle * cycle


def magnitudes(counts: Counts, polarity: Polarity) -> Counts:
    """Return a series whose pulses are upwards.

    Args:
        counts: ``(C, T)``.
        polarity: how it is written.

    Returns:
        The same array of ``unipolar`` ones. Of ``negative`` and ``bipolar`` ones the deviation from
        each channel's median, float32: downwards alone, or upwards and then downwards as ``2 C``
        channels. Of ``decibel`` the amplitude, ``10 ** (level / 20)``.
    """
    if polarity == "unipolar":
        return counts
    values = np.asarray(counts, np.float32)
    if polarity == "decibel":
        return np.power(np.float32(10), values / np.float32(20))
    above = values - np.median(values, axis=1, keepdims=True)
    if polarity == "negative":
        return np.negative(above, out=above)
    return np.concatenate([above, -above])


def held_peaks(series: Counts, *, per_cycle: int, cycle: int) -> Counts:
    """Return the largest value in each of ``cycle`` bins of every mains cycle.

    Args:
        series: ``(C, T)``; an incomplete last cycle is left out.
        per_cycle: its values to a mains cycle.
        cycle: bins; where there are more than values, a value fills the bins around it.

    Returns:
        ``(C, T // per_cycle * cycle)``, or the series itself where both numbers are equal.

    Example:
        >>> held_peaks(np.array([[1, 5, 2, 3]], np.float32), per_cycle=4, cycle=2).tolist()
        [[5.0, 3.0]]
    """
    if per_cycle == cycle:
        return series
    cycles = series.shape[1] // per_cycle
    whole = series[:, : cycles * per_cycle].reshape(len(series), cycles, per_cycle)
    if per_cycle < cycle:
        index = (np.arange(cycle) * per_cycle + per_cycle // 2) // cycle
        held = whole[..., np.minimum(index, per_cycle - 1)]
    else:
        starts = -(-np.arange(cycle) * per_cycle // cycle)  # rounded up: no bin begins early
        held = np.maximum.reduceat(whole, starts, axis=2)
    return np.ascontiguousarray(held.reshape(len(series), cycles * cycle))


# What a model of one polarity may be shown: a recording of one direction alone is no contradiction
# for one of both.
_ACCEPTED: dict[Polarity, frozenset[Polarity]] = {
    "unipolar": frozenset({"unipolar"}),
    "bipolar": frozenset({"bipolar", "unipolar", "negative"}),
    "negative": frozenset({"negative"}),
    "decibel": frozenset({"decibel", "unipolar"}),
}


def check_polarity(counts: FloatArray, polarity: Polarity, name: str) -> None:
    """Refuse a series ``(C, T)`` that is plainly written in another way than a model's.

    Raises:
        DataError: it says in which way, and how to mend it.
    """
    found = recognised_polarity([counts], both=_PLAIN, few=_MANY)
    if found is None or found in _ACCEPTED[polarity]:
        return
    raise DataError(
        f"{name} has a series that is {describe(found)}; this model was trained on series that are "
        f"{describe(polarity)}. Record or convert it as those were, or train a model on such ones.",
        see="polarity",
    )
