"""Pure functions of arrays that say how good scores are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiasm.metrics.bootstrap import auroc_interval as auroc_interval
    from chiasm.metrics.bootstrap import bootstrap_interval as bootstrap_interval
    from chiasm.metrics.bootstrap import bootstrap_weights as bootstrap_weights
    from chiasm.metrics.calibration import brier as brier
    from chiasm.metrics.calibration import conformal_p_value as conformal_p_value
    from chiasm.metrics.calibration import conformal_threshold as conformal_threshold
    from chiasm.metrics.calibration import (
        equal_mass_calibration_error as equal_mass_calibration_error,
    )
    from chiasm.metrics.calibration import expected_calibration_error as expected_calibration_error
    from chiasm.metrics.calibration import fit_temperature as fit_temperature
    from chiasm.metrics.calibration import log_loss as log_loss
    from chiasm.metrics.calibration import normals_needed as normals_needed
    from chiasm.metrics.calibration import softmax as softmax
    from chiasm.metrics.classification import accuracy as accuracy
    from chiasm.metrics.classification import balanced_accuracy as balanced_accuracy
    from chiasm.metrics.classification import class_scores as class_scores
    from chiasm.metrics.classification import confusion_matrix as confusion_matrix
    from chiasm.metrics.classification import macro_f1 as macro_f1
    from chiasm.metrics.classification import macro_f1_draws as macro_f1_draws
    from chiasm.metrics.classification import one_vs_rest_auroc as one_vs_rest_auroc
    from chiasm.metrics.group_bootstrap import PairedDifference as PairedDifference
    from chiasm.metrics.group_bootstrap import SummedFigure as SummedFigure
    from chiasm.metrics.group_bootstrap import balanced_accuracy_figure as balanced_accuracy_figure
    from chiasm.metrics.group_bootstrap import group_bootstrap_interval as group_bootstrap_interval
    from chiasm.metrics.group_bootstrap import macro_f1_figure as macro_f1_figure
    from chiasm.metrics.group_bootstrap import paired_group_bootstrap as paired_group_bootstrap
    from chiasm.metrics.image_score import pooled_max as pooled_max
    from chiasm.metrics.image_score import top_mean as top_mean
    from chiasm.metrics.open_set import energy_score as energy_score
    from chiasm.metrics.open_set import fpr_at_tpr as fpr_at_tpr
    from chiasm.metrics.open_set import knn_score as knn_score
    from chiasm.metrics.open_set import max_softmax_score as max_softmax_score
    from chiasm.metrics.pixel_histograms import PixelHistograms as PixelHistograms
    from chiasm.metrics.ranking import auroc as auroc
    from chiasm.metrics.ranking import average_precision as average_precision
    from chiasm.metrics.ranking import f1_max as f1_max
    from chiasm.metrics.ranking import flatten_pixels as flatten_pixels
    from chiasm.metrics.region_overlap import aupro as aupro
    from chiasm.metrics.streaming_overlap import StreamingAupro as StreamingAupro

VERSIONS: dict[str, int] = {
    "accuracy": 1,
    "balanced_accuracy": 1,
    "equal_mass_calibration_error": 2,
    "fpr_at_tpr": 1,
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
    "energy_score",
    "equal_mass_calibration_error",
    "expected_calibration_error",
    "f1_max",
    "fit_temperature",
    "flatten_pixels",
    "fpr_at_tpr",
    "group_bootstrap_interval",
    "knn_score",
    "log_loss",
    "macro_f1",
    "macro_f1_draws",
    "macro_f1_figure",
    "max_softmax_score",
    "normals_needed",
    "one_vs_rest_auroc",
    "paired_group_bootstrap",
    "pooled_max",
    "softmax",
    "top_mean",
]

_HOMES = {
    "PairedDifference": "group_bootstrap",
    "PixelHistograms": "pixel_histograms",
    "StreamingAupro": "streaming_overlap",
    "SummedFigure": "group_bootstrap",
    "accuracy": "classification",
    "aupro": "region_overlap",
    "auroc": "ranking",
    "auroc_interval": "bootstrap",
    "average_precision": "ranking",
    "balanced_accuracy": "classification",
    "balanced_accuracy_figure": "group_bootstrap",
    "bootstrap_interval": "bootstrap",
    "bootstrap_weights": "bootstrap",
    "brier": "calibration",
    "class_scores": "classification",
    "conformal_p_value": "calibration",
    "conformal_threshold": "calibration",
    "confusion_matrix": "classification",
    "equal_mass_calibration_error": "probability",
    "expected_calibration_error": "calibration",
    "f1_max": "ranking",
    "fpr_at_tpr": "open_set",
    "fit_temperature": "probability",
    "flatten_pixels": "ranking",
    "group_bootstrap_interval": "group_bootstrap",
    "log_loss": "probability",
    "macro_f1": "classification",
    "macro_f1_draws": "classification",
    "macro_f1_figure": "group_bootstrap",
    "normals_needed": "calibration",
    "one_vs_rest_auroc": "classification",
    "paired_group_bootstrap": "group_bootstrap",
    "pooled_max": "image_score",
    "softmax": "probability",
    "top_mean": "image_score",
    "energy_score": "open_set",
    "max_softmax_score": "open_set",
    "knn_score": "open_set",
}


def __getattr__(name: str) -> Any:
    # A deployed runtime needs the p-value alone, not scikit-learn, pandas and their memory.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"chiasm.metrics.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'chiasm.metrics' has no attribute {name!r}")
