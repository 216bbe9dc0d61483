"""Whether recent scores look like those of the calibration normals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FEWEST = 20
"""Recent scores below which nothing is said."""
_BINS = 20
_SUSPICIOUS = 0.01


def drift(
    recent: Sequence[float], calibration: Sequence[float], *, false_alarm_rate: float | None
) -> dict[str, Any]:
    """Compare recent scores with calibration scores.

    The test is Kolmogorov's and Smirnov's for two samples. Real defects among the recent parts
    shift it too: it says that something changed, not what.

    Returns:
        Counts of both, the test's statistic and p-value (None where there are too few scores),
        histograms over common bins, a sentence, and whether it is an alert.
    """
    new, old = np.asarray(recent, np.float64), np.asarray(calibration, np.float64)
    out: dict[str, Any] = {
        "recent": int(new.size),
        "calibration": int(old.size),
        "statistic": None,
        "p_value": None,
        "drifted": False,
        **histogram(new, old),
    }
    if old.size == 0:
        out["sentence"] = "The model came without calibration scores, so nothing can be compared."
        return out
    if new.size < FEWEST:
        out["sentence"] = (
            f"{new.size} recent parts are too few to compare with {old.size} calibration normals; "
            f"the test begins at {FEWEST}."
        )
        return out
    # Seconds of import and tens of megabytes, needed by this question alone.
    from scipy.stats import ks_2samp

    found = ks_2samp(new, old)
    out["statistic"], out["p_value"] = float(found.statistic), float(found.pvalue)
    out["drifted"] = bool(found.pvalue < _SUSPICIOUS)
    compared = f"{new.size} recent parts and {old.size} calibration normals"
    chance = f"p = {found.pvalue:.2g}"
    if not out["drifted"]:
        out["sentence"] = f"No drift is seen: the scores of {compared} look alike ({chance})."
        return out
    side = "higher" if np.median(new) > np.median(old) else "lower"
    out["sentence"] = (
        f"Scores have drifted: of {compared}, the recent ones are {side} or spread otherwise "
        f"({chance}). Look at camera, light and position; if the parts are good, recalibrate"
        + (
            f". The promise of {100 * false_alarm_rate:g} % false alarms does not hold until then."
            if false_alarm_rate
            else "."
        )
    )
    return out


def histogram(new: np.ndarray, old: np.ndarray) -> dict[str, list[float] | list[int]]:
    """Counts of both samples in the same bins; empty where there is no score."""
    both = np.concatenate([new, old])
    if both.size == 0:
        return {"edges": [], "recent_counts": [], "calibration_counts": []}
    edges = np.histogram_bin_edges(both, bins=_BINS)
    return {
        "edges": edges.tolist(),
        "recent_counts": np.histogram(new, edges)[0].tolist(),
        "calibration_counts": np.histogram(old, edges)[0].tolist(),
    }
