"""Find faults from two kinds of sensor at once, and learn how to fuse them.

Each function serves both wings: ``detection`` (is this part defective, and where?) and
``diagnosis`` (which partial-discharge fault is this?)::

    chiasm.train(data="parts", out="run")
    model = chiasm.load("run")
    verdict = model(rgb, xyz)
    verdicts = chiasm.predict(model, ["a.png", ("b.png", "b.tiff"), (rgb, xyz)])

    chiasm.train(model="mad_small", data="recordings", out="pd")
    diagnosis = chiasm.load("pd")(image, series)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chiasm.api import (
    add_products,
    demo,
    evaluate,
    export,
    load,
    predict,
    search,
    train,
    trend,
)

if TYPE_CHECKING:
    from chiasm.api.estimators import DefectDetector as DefectDetector
    from chiasm.api.estimators import DischargeClassifier as DischargeClassifier
    from chiasm.detection.config import DetectionConfig as DetectionConfig
    from chiasm.diagnosis.config import DiagnosisConfig as DiagnosisConfig
    from chiasm.fusion.genotype import Genotype as Genotype
    from chiasm.runs.mlflow_log import log_to_mlflow as log_to_mlflow

__version__ = "0.2.0"
_CONFIGS = {"DetectionConfig": "chiasm.detection", "DiagnosisConfig": "chiasm.diagnosis"}
# What needs scikit-learn or PyTorch, and where it stands.
_LATER = {
    "DefectDetector": "chiasm.api.estimators",
    "DischargeClassifier": "chiasm.api.estimators",
    "Genotype": "chiasm.fusion.genotype",
    "log_to_mlflow": "chiasm.runs.mlflow_log",
}
__all__ = [
    "DefectDetector",
    "DetectionConfig",
    "DiagnosisConfig",
    "DischargeClassifier",
    "Genotype",
    "add_products",
    "demo",
    "evaluate",
    "export",
    "load",
    "log_to_mlflow",
    "predict",
    "search",
    "train",
    "trend",
]


def __getattr__(name: str) -> Any:
    # The settings need pydantic, and others more, which a station does not have.
    if name not in (*_CONFIGS, *_LATER):
        raise AttributeError(f"module 'chiasm' has no attribute {name!r}")
    import importlib

    try:
        if name in _LATER:
            return getattr(importlib.import_module(_LATER[name]), name)
        importlib.import_module(f"{_CONFIGS[name]}.models.named")  # the models that it may name
        return getattr(importlib.import_module(f"{_CONFIGS[name]}.config"), name)
    except ModuleNotFoundError as error:
        raise AttributeError(
            f"chiasm.{name} needs {error.name}: pip install 'chiasm[train]'."
        ) from error


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
