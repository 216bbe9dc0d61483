"""Find faults from two kinds of sensor at once, and learn how to fuse them.

The verbs of the command line, in Python::

    chiasm.train(chiasm.DetectionConfig.make(data="parts", out="run"))
    verdict = chiasm.load("run")(rgb, xyz)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiasm.api import evaluate as evaluate
    from chiasm.api import load as load
    from chiasm.api import predict as predict
    from chiasm.api import train as train
    from chiasm.detection.config import DetectionConfig as DetectionConfig
    from chiasm.detection.demo import demo as demo
    from chiasm.detection.search import search as search
    from chiasm.diagnosis.config import DiagnosisConfig as DiagnosisConfig

__version__ = "0.1.0"
__all__ = [
    "DetectionConfig",
    "DiagnosisConfig",
    "demo",
    "evaluate",
    "load",
    "predict",
    "search",
    "train",
]

_HOMES = {
    "DiagnosisConfig": "chiasm.diagnosis.config",
    "DetectionConfig": "chiasm.detection.config",
    "demo": "chiasm.detection.demo",
    "evaluate": "chiasm.api",
    "load": "chiasm.api",
    "predict": "chiasm.api",
    "search": "chiasm.detection.search",
    "train": "chiasm.api",
}


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; ``chiasm --help`` should not.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'chiasm' has no attribute {name!r}")
