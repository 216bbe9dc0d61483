"""The interface: train, search, evaluate, predict, load, export and demo, for both wings.

Each function finds the wing by the model's name, or by the contract of a trained model, and hands
over to it. Nothing heavy is imported before a function is called.
"""

from chiasm.api.configuration import (
    DEFAULT_MODEL,
    facts_of,
    make_config,
    presets_of,
    registered,
)
from chiasm.api.loading import export, load, wing
from chiasm.api.prediction import evaluate, predict, predict_shards, trend
from chiasm.api.training import add_products, demo, search, train

__all__ = [
    "DEFAULT_MODEL",
    "add_products",
    "demo",
    "evaluate",
    "export",
    "facts_of",
    "load",
    "make_config",
    "predict",
    "predict_shards",
    "presets_of",
    "registered",
    "search",
    "train",
    "trend",
    "wing",
]
