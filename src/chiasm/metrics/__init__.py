"""Pure functions of arrays that say how good scores are."""

from chiasm.metrics.bootstrap import auroc_interval, bootstrap_interval, bootstrap_weights
from chiasm.metrics.calibration import (
    brier,
    conformal_p_value,
    conformal_threshold,
    expected_calibration_error,
    normals_needed,
)
from chiasm.metrics.classification import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    macro_f1,
    macro_f1_draws,
    one_vs_rest_auroc,
)
from chiasm.metrics.group_bootstrap import (
    PairedDifference,
    SummedFigure,
    balanced_accuracy_figure,
    group_bootstrap_interval,
    macro_f1_figure,
    paired_group_bootstrap,
)
from chiasm.metrics.image_score import pooled_max, top_mean
from chiasm.metrics.open_set import (
    false_alarms_at_recall,
    unlike_energy,
    unlike_max_softmax,
    unlike_neighbours,
)
from chiasm.metrics.pixel_histograms import PixelHistograms
from chiasm.metrics.probability import (
    equal_mass_calibration_error,
    fit_temperature,
    log_loss,
    softmax,
)
from chiasm.metrics.ranking import auroc, average_precision, f1_max, flatten_pixels
from chiasm.metrics.region_overlap import aupro
from chiasm.metrics.streaming_overlap import StreamingAupro

VERSIONS: dict[str, int] = {
    "accuracy": 1,
    "balanced_accuracy": 1,
    "equal_mass_calibration_error": 1,
    "false_alarms_at_recall": 1,
    "group_bootstrap_interval": 1,
    "macro_f1": 1,
    "one_vs_rest_auroc": 1,
    "paired_group_bootstrap": 1,
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
    "PairedDifference",
    "PixelHistograms",
    "StreamingAupro",
    "SummedFigure",
    "accuracy",
    "aupro",
    "auroc",
    "auroc_interval",
    "average_precision",
    "balanced_accuracy",
    "balanced_accuracy_figure",
    "bootstrap_interval",
    "bootstrap_weights",
    "brier",
    "class_scores",
    "conformal_p_value",
    "conformal_threshold",
    "confusion_matrix",
    "equal_mass_calibration_error",
    "expected_calibration_error",
    "f1_max",
    "false_alarms_at_recall",
    "fit_temperature",
    "flatten_pixels",
    "group_bootstrap_interval",
    "log_loss",
    "macro_f1",
    "macro_f1_draws",
    "macro_f1_figure",
    "normals_needed",
    "one_vs_rest_auroc",
    "paired_group_bootstrap",
    "pooled_max",
    "softmax",
    "top_mean",
    "unlike_energy",
    "unlike_max_softmax",
    "unlike_neighbours",
]
