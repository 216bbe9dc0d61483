"""Whether recent scores look like those of the calibration normals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chiasm.service.schemas import Drift

FEWEST = 20
"""Fewest recent scores that are tested."""
_BINS = 20
_SIGNIFICANCE = 0.01


def drift(
    model: str,
    recent: Sequence[float],
    calibration: Sequence[float],
    *,
    false_alarm_rate: float | None,
) -> Drift:
    """Compare a model's recent scores with its calibration scores.

    The test is Kolmogorov's and Smirnov's for two samples. Real defects among the recent parts
    shift it too: it says that something changed, not what.

    Returns:
        Counts of both samples over common bins, statistic and p-value of the test (None for fewer
        than ``FEWEST`` recent scores), whether it is an alert, and a sentence for people.
    """
    new, old = np.asarray(recent, np.float64), np.asarray(calibration, np.float64)
    both = np.concatenate([new, old])
    edges = np.histogram_bin_edges(both, bins=_BINS) if both.size else np.empty(0)
    result = Drift(
        model=model,
        recent=new.size,
        calibration=old.size,
        statistic=None,
        p_value=None,
        drifted=False,
        sentence="",
        edges=edges.tolist(),
        recent_counts=np.histogram(new, edges)[0].tolist() if both.size else [],
        calibration_counts=np.histogram(old, edges)[0].tolist() if both.size else [],
    )
    if old.size == 0:
        result.sentence = "The model has no calibration scores, so there is nothing to compare."
        return result
    if new.size < FEWEST:
        result.sentence = (
            f"{new.size} recent parts are too few to compare with {old.size} calibration normals; "
            f"the test needs {FEWEST}."
        )
        return result
    # Its import takes seconds and tens of megabytes, and nothing else needs it.
    from scipy.stats import ks_2samp

    test = ks_2samp(new, old)
    result.statistic, result.p_value = float(test.statistic), float(test.pvalue)
    result.drifted = result.p_value < _SIGNIFICANCE
    samples = f"{new.size} recent parts and {old.size} calibration normals"
    chance = f"p = {result.p_value:.2g}"
    if not result.drifted:
        result.sentence = f"No drift is seen: the scores of {samples} look alike ({chance})."
        return result
    side = "higher" if np.median(new) > np.median(old) else "lower"
    result.sentence = (
        f"Scores have drifted: of {samples}, the recent ones are {side} or spread otherwise "
        f"({chance}). Check camera, lamp and position; if the parts are good, recalibrate"
        + (
            f". The promise of {100 * false_alarm_rate:g} % false alarms does not hold until then."
            if false_alarm_rate
            else "."
        )
    )
    return result
