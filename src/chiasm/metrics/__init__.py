"""Pure functions of arrays that say how good scores are."""

from chiasm.metrics.bootstrap import auroc_interval, bootstrap_interval, bootstrap_weights
from chiasm.metrics.calibration import (
    brier,
    conformal_p_value,
    conformal_threshold,
    expected_calibration_error,
    normals_needed,
)
from chiasm.metrics.image_score import pooled_max, top_mean
from chiasm.metrics.pixel_histograms import PixelHistograms
from chiasm.metrics.ranking import auroc, average_precision, f1_max, flatten_pixels
from chiasm.metrics.region_overlap import aupro
from chiasm.metrics.streaming_overlap import StreamingAupro

VERSIONS: dict[str, int] = {
    "aupro": 1,
    "auroc": 1,
    "average_precision": 1,
    "bootstrap_interval": 1,
    "brier": 1,
    "conformal_p_value": 1,
    "conformal_threshold": 1,
    "expected_calibration_error": 1,
    "f1_max": 1,
    "pooled_max": 1,
    "top_mean": 1,
}
"""Version of each figure's definition; raised when the same input would give another figure."""

__all__ = [
    "VERSIONS",
    "PixelHistograms",
    "StreamingAupro",
    "aupro",
    "auroc",
    "auroc_interval",
    "average_precision",
    "bootstrap_interval",
    "bootstrap_weights",
    "brier",
    "conformal_p_value",
    "conformal_threshold",
    "expected_calibration_error",
    "f1_max",
    "flatten_pixels",
    "normals_needed",
    "pooled_max",
    "top_mean",
]
