"""Single pulses of a sampled series: peaks above the noise floor, with a dead time.

A value is part of a pulse if it is farther from the quiet level (the median) than six robust
standard deviations of the floor. A pulse begins at the first such value; the largest one within
the dead time is its peak, and no other pulse begins in it. Instruments count so, with a threshold
and a pulse resolution time. A recorder that writes one peak for each bin of the phase has at most
one pulse a bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.recorders import Polarity, recognised_polarity
from chiasm.diagnosis.preparation.relative import MAD_TO_SIGMA
from chiasm.discharge import Pulses
from chiasm.samples import FloatArray

# Robust standard deviations of the floor beyond which a value belongs to a pulse: of the Rayleigh
# envelope of white noise one value in a million does.
THRESHOLD = 6.0
# Of wide-band instruments (pulse resolution time 5 to 20 us), seconds.
DEAD_TIME_S = 20e-6
# A floor without noise has at least half of the smallest step, or this share of the range.
_LEAST_SHARE = 0.002
# Share of the values that are no pulses at least, to tell whether the floor varies.
_MOSTLY = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedPulses:
    """Pulses of a series.

    Attributes:
        pulses: with their times; amplitudes above the quiet level, in the recorder's unit (of
            decibel the linear amplitude), signed if the series is bipolar.
        index: ``(N,)`` their values in the series.
        floor: robust standard deviation of the noise floor, same unit.
        threshold: that amplitudes exceed, same unit.
        polarity: how the series was read.
    """

    pulses: Pulses
    index: NDArray[np.int64]
    floor: float
    threshold: float
    polarity: Polarity


def extract_pulses(
    series: FloatArray,
    *,
    frequency: float,
    samples_per_cycle: int,
    polarity: Polarity | None = None,
    dead_time_s: float = DEAD_TIME_S,
) -> ExtractedPulses:
    """Find the pulses of one channel.

    Args:
        series: ``(T,)`` in the recorder's unit.
        frequency: of the mains, Hz.
        samples_per_cycle: values in a mains cycle.
        polarity: how it is written; None tells it from the values.
        dead_time_s: see the module.
    """
    values = np.asarray(series, np.float64)
    polarity = polarity or recognised_polarity([series[None]]) or "unipolar"
    if polarity == "decibel":
        values = np.power(10.0, values / 20.0)
    above = values - np.median(values)
    if polarity == "negative":
        above = -above
    floor = _floor(above)
    threshold = THRESHOLD * max(floor, _LEAST_SHARE * float(np.ptp(above)), 1e-12)
    height = np.abs(above) if polarity == "bipolar" else above
    rate = frequency * samples_per_cycle
    index = _peaks(height, threshold, max(1, round(dead_time_s * rate)))
    # In the middle of its bin.
    phase = np.asarray((index % samples_per_cycle + 0.5) * (360.0 / samples_per_cycle), np.float64)
    pulses = Pulses(phase, above[index], np.asarray(index / rate, np.float64))
    return ExtractedPulses(pulses, index, floor, threshold, polarity)


def _floor(above: NDArray[np.float64]) -> float:
    """Return the robust standard deviation of ``(T,)`` values about their median, and rounding.

    A floor that does not vary at all, as of a list of pulses, has no rounding either: steps between
    its values are those of the pulses.
    """
    some = np.abs(above[:: max(1, above.size // 20_000)])
    seen = np.unique(some)
    varies = float(np.quantile(some, _MOSTLY)) > 0
    step = float(np.diff(seen).min()) if varies and seen.size > 1 else 0.0
    return MAD_TO_SIGMA * float(np.median(np.abs(above))) + 0.5 * step


def _peaks(height: NDArray[np.float64], threshold: float, dead: int) -> NDArray[np.int64]:
    """Return the index of the largest value of each pulse; ``dead`` values hold one pulse."""
    index = np.flatnonzero(height > threshold)
    if dead <= 1 or not index.size:
        return index.astype(np.int64)
    first = [0]
    while (place := int(np.searchsorted(index, index[first[-1]] + dead))) < index.size:
        first.append(place)
    pulse = np.zeros(index.size, np.int64)
    pulse[first[1:]] = 1
    pulse = pulse.cumsum()
    order = np.lexsort((-height[index], pulse))
    kept = np.unique(pulse[order], return_index=True)[1]
    return np.asarray(index[order][kept], np.int64)
