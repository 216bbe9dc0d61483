"""Which phases speak for a class: how much less likely it is without them.

Parts of the input are hidden one after the other, after Zeiler and Fergus, "Visualizing and
understanding convolutional networks" (2014): it asks of a model nothing but its diagnosis, so that
networks, trees and exported models are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from chiasm.diagnosis.quantities.pattern import without_phases
from chiasm.discharge import Array
from chiasm.errors import ChiasmError
from chiasm.samples import Diagnosis, RecordingSample

WINDOWS = 12  # of 30 degrees
_LEAST = 1e-6


def speaking_phases(
    judge: Callable[[RecordingSample], Diagnosis],
    sample: RecordingSample,
    diagnosis: Diagnosis,
    *,
    windows: int = WINDOWS,
) -> Array | None:
    """Return how much each window of the phase speaks for the likeliest class.

    Args:
        judge: diagnoses a recording.
        sample: the recording.
        diagnosis: of the whole of it.
        windows: number of windows of the mains cycle.

    Returns:
        ``(windows,)`` the logarithm of the odds of the likeliest class minus that without the
        window, 0 where the class becomes no less likely; None where the recording cannot be judged
        without a window.
    """
    kind = max(diagnosis.probabilities, key=lambda name: diagnosis.probabilities[name])
    whole = _log_odds(diagnosis.probabilities[kind])
    speaks = np.zeros(windows)
    for window in range(windows):
        try:
            without = judge(without_phases(sample, window / windows, (window + 1) / windows))
        except ChiasmError:
            return None
        speaks[window] = max(0.0, whole - _log_odds(without.probabilities[kind]))
    return speaks


def _log_odds(probability: float) -> float:
    probability = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(probability / (1 - probability))
