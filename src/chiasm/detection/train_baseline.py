"""Train a rival: the same folders, splits, preparation, contract and report as ours."""

from __future__ import annotations

import inspect
import json
import resource
import time
from typing import Any

import torch
from torch.utils.data import DataLoader

from chiasm.detection.anomalies.generators import training_generator
from chiasm.detection.anomalies.textures import TextureSource
from chiasm.detection.calibrate import keep
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import parameter_count
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Baseline
from chiasm.detection.models.cost import cost_of
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training.baseline import learn_in_steps
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model
from chiasm.runs.console import say

SCORE_RULE = "distances from normal as the method measures them, smoothed, zero off the object"
# How our detectors search and learn.
_OF_OURS = (
    *("fusion", "cells", "candidates", "operations", "nodes", "rounds", "order", "finalists"),
    *("search_epochs", "train_epochs", "final_epochs", "final_steps", "architecture_rate"),
    *("learning_rate", "batch", "memory_entries", "rotate"),
)


def train_baseline(data: DetectionDataModule) -> None:
    """Take the configured rival through its steps, calibrate it and keep it.

    Raises ``ConfigurationError`` for options that the rival does not have.
    """
    config = data.config
    torch.manual_seed(config.seed)
    arguments = builder_arguments(config)
    rival = built(config, arguments)
    say(f"{config.model}: {rival.pretrained_weights or 'no published weights'}.")
    if idle := idle_settings(config):
        say(
            f"{config.model} learns in steps of its own; passed over: {', '.join(idle)}. Settings "
            "of its own are given as options={name: value}."
        )
    left = data.seconds_left()
    learn_in_steps(
        rival,
        data.parts,
        scale=data.scale,
        folder=config.out,
        minutes=None if left == float("inf") else 0.9 * max(left, 6.0) / 60,
        seed=config.seed,
        synthetic=lambda batch: _synthetic(data, batch),
        said=say,
    )
    keep(rival, data, arguments=arguments, fusion="none", score_rule=SCORE_RULE)
    example = to_batch(data.calibration[:1], data.scale, modalities=config.modalities)
    minutes = (time.monotonic() - data.started) / 60
    facts = {
        "fit_minutes": round(minutes, 3),
        "parameters": parameter_count(rival),
        "fit_peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "macs": cost_of(rival, example).macs,
    }
    (config.out / "learning.json").write_text(json.dumps(facts, indent=2) + "\n")
    say(f"The model is in {config.out / 'model'} ({minutes:.1f} minutes).")


def builder_arguments(config: DetectionConfig) -> dict[str, Any]:
    """Options of the run as arguments of the rival's builder; tells which there are if one is not.

    Raises ``ConfigurationError``.
    """
    known = inspect.signature(find_model(config.model).builder).parameters
    options = [name for name in known if name not in ("modalities", "image_size", "pretrained")]
    for name in config.options:
        if name not in options:
            there = f"there are: {', '.join(options)}" if options else "it has none"
            raise ConfigurationError(f"{config.model} has no option {name!r}; {there}.")
    return {"image_size": config.image_size, **config.options}


def built(config: DetectionConfig, arguments: dict[str, Any]) -> Baseline:
    """The configured rival; ``ConfigurationError`` where an option's value is nothing to it."""
    try:
        rival: Baseline = find_model(config.model).builder(
            modalities=config.modalities, **arguments
        )
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        if not config.options:
            raise
        given = ", ".join(f"{name}: {value!r}" for name, value in config.options.items())
        raise ConfigurationError(
            f"{config.model} cannot be made with the options {given}: {error}"
        ) from error
    return rival


def idle_settings(config: DetectionConfig) -> list[str]:
    """Settings that were given and that a rival does not read."""
    fields = DetectionConfig.model_fields
    return [name for name in _OF_OURS if getattr(config, name) != fields[name].default]


def _synthetic(data: DetectionDataModule, batch: int) -> DataLoader[Any]:
    """All normal parts with training's anomalies; a rival holds none of them back."""
    folder = data.config.textures
    parts = SyntheticParts(
        data.parts,
        numbers=range(len(data.parts)),
        generator=training_generator(None if folder is None else TextureSource.from_folder(folder)),
        seed=data.config.seed * 10,
    )
    return fresh_loader(
        parts,
        batch=batch,
        scale=data.scale,
        modalities=data.config.modalities,
        shuffle=True,
    )
