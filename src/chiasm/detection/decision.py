"""How far an exported detector is from the trained one, and how far it may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ConfigurationError, SplitError
from chiasm.metrics.calibration import conformal_threshold


def alarm_score(calibration: NDArray[np.float64], false_alarm_rate: float) -> float:
    """The score above which a part is called defective; the largest where normals are too few."""
    try:
        return conformal_threshold(calibration, false_alarm_rate)
    except SplitError:
        return float(calibration.max())


def alarm_threshold(deployment: Any) -> float | None:
    """The score above which a part is an alarm; None where too few normals can promise one."""
    if not deployment.calibration_scores:
        return None
    try:
        return conformal_threshold(deployment.calibration_scores, deployment.false_alarm_rate)
    except (SplitError, ConfigurationError):
        return None
