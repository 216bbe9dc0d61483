"""Figures as pure functions of arrays; import them from the files of this package."""

VERSIONS: dict[str, int] = {
    "accuracy": 1,
    "aupro": 1,
    "auroc": 1,
    "average_precision": 1,
    "balanced_accuracy": 1,
    "bootstrap_interval": 1,
    "brier": 1,
    "conformal_p_value": 1,
    "conformal_threshold": 1,
    "equal_mass_calibration_error": 2,
    "f1_max": 1,
    "fpr_at_tpr": 1,
    "macro_f1": 1,
    "one_vs_rest_auroc": 1,
    "paired_group_bootstrap": 1,
}
"""Version of each figure's definition; raised when the same input would give another figure.

Contracts carry it. Those of earlier versions also name figures that no longer exist.
"""
