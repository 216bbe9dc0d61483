"""The configured model: its arguments, its pools, and its detector with empty memories."""

from __future__ import annotations

import inspect
from typing import Any

from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.candidates import MIDDLE_SCALES
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.errors import ConfigurationError
from chiasm.fusion.pools import Pools
from chiasm.registry import RegisteredModel, find_model, models
from chiasm.training.device import find_device


def pools_of(config: DetectionConfig) -> Pools:
    """Return the candidates that the configured model may fuse, by cell.

    Raises ``ConfigurationError`` where the model has no fusion to search, or none of several scales
    to choose from.
    """
    model = find_model(config.model)
    pools = model.pools
    if pools is None:
        searchable = ", ".join(model.name for model in models("detector") if model.pools)
        raise ConfigurationError(
            f"{config.model} has no fusion to search; models that have one: {searchable}."
        )
    parameters = inspect.signature(pools).parameters
    if "middle_scales" not in parameters and config.middle_scales != MIDDLE_SCALES:
        raise ConfigurationError(
            f"{config.model} fuses features whose scales are fixed; leave out middle_scales, or "
            "choose a model that trains its features."
        )
    for name in ("evidence", "score_evidence", "backbone"):
        changed = getattr(config, name) != DetectionConfig.model_fields[name].default
        if name not in inspect.signature(model.builder).parameters and changed:
            raise ConfigurationError(
                f"{config.model} has no frozen features; leave out {name}, or choose a model that "
                f"has them: {', '.join(_models_with(name))}."
            )
    arguments = {k: v for k, v in builder_arguments(config).items() if k in parameters}
    found: Pools = pools(**arguments).only(*config.cells).matching(config.candidates)
    return found


def _models_with(parameter: str) -> list[str]:
    """Return the models with a fusion to search whose builder has a parameter."""
    return [
        model.name
        for model in models("detector")
        if model.pools is not None and parameter in inspect.signature(model.builder).parameters
    ]


def builder_arguments(config: DetectionConfig) -> dict[str, Any]:
    """Return the settings that the builder of the configured model takes, but for the fusion."""
    parameters = inspect.signature(find_model(config.model).builder).parameters
    settings = type(config).model_fields.keys() - {"fusion"}
    return {name: getattr(config, name) for name in parameters if name in settings}


def trains_features(model: RegisteredModel) -> bool:
    """Return whether a model with a fusion trains its features, which others have frozen."""
    return "backbone" not in inspect.signature(model.builder).parameters


def frozen_detector(config: DetectionConfig) -> AdnasDetector | None:
    """Build the configured detector on its device, with empty memories.

    Returns None where its source is trained.
    """
    model = find_model(config.model)
    if trains_features(model):
        return None
    detector: AdnasDetector = model.builder("concatenation", **builder_arguments(config))
    return detector.to(find_device(config.device)).eval()
