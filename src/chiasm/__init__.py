"""Find faults from two kinds of sensor at once, and learn how to fuse them.

The verbs of the command line, in Python::

    chiasm.train(chiasm.RunConfig.make(data="parts", out="run"))
    verdict = chiasm.load("run")(rgb, xyz)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiasm.config import RunConfig as RunConfig
    from chiasm.predictor import Predictor
    from chiasm.workflows.demo import demo as demo
    from chiasm.workflows.judge import evaluate as evaluate
    from chiasm.workflows.judge import predict as predict
    from chiasm.workflows.learn import train as train
    from chiasm.workflows.search import search as search

__version__ = "0.1.0"
__all__ = ["RunConfig", "demo", "evaluate", "load", "predict", "search", "train"]

_HOMES = {
    "RunConfig": "chiasm.config",
    "demo": "chiasm.workflows.demo",
    "evaluate": "chiasm.workflows.judge",
    "predict": "chiasm.workflows.judge",
    "search": "chiasm.workflows.search",
    "train": "chiasm.workflows.learn",
}


def load(folder: str) -> Predictor:
    """Load a trained model from its folder; it maps ``(rgb, xyz)`` to a ``Verdict``."""
    from chiasm.predictor import Predictor

    return Predictor.load(folder)


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; ``chiasm --help`` should not.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'chiasm' has no attribute {name!r}")
