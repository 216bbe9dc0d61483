"""Train a baseline on the same folders, splits and preparation as a searched detector."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from chiasm.detection.building import builder_arguments
from chiasm.detection.calibrate import calibrate_and_save
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Baseline
from chiasm.detection.score_rule import set_image_rule
from chiasm.detection.training.baseline import train_in_steps
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model
from chiasm.runs.console import say

SCORE_RULE = (
    "distances from normal as the method measures them, smoothed, zero off the object; the image's "
    "score is the method's own, or else {image}"
)
RUN_ARGUMENTS = ("image_size", "bottleneck_stride")  # of a builder, that are the run's settings
# Settings that a baseline does not read: how a searched detector is searched and trained.
SEARCHED_ONLY = (
    *("fusion", "cells", "middle_scales", "candidates", "operations", "nodes", "rounds"),
    *("search", "train_epochs", "optimiser", "learning_rate", "weight_decay", "schedule", "loss"),
    *("batch", "accumulate", "checkpointing", "memory_entries"),
    *("evidence", "backbone"),
)


def train_baseline(
    data: DetectionDataModule,
    *,
    seconds: float,
    cross: tuple[Sequence[float], int] | None = None,
) -> float:
    """Train the configured baseline in its own steps, calibrate it and save it.

    Returns the minutes since the start of the run. Raises ``ConfigurationError`` for options that
    the baseline does not have.

    Args:
        data: of the run.
        seconds: budget of the training; infinite without one.
        cross: scores and folds of a cross calibration; None scores the calibration normals.
    """
    config = data.config
    torch.manual_seed(config.seed)
    baseline, arguments = configured_baseline(config)
    baseline.to(data.device)
    say(f"{config.model}: {baseline.pretrained_weights or 'no published weights'}.")
    if ignored := ignored_settings(config):
        say(
            f"{config.model} is trained in its own steps; ignored settings: {', '.join(ignored)}. "
            "Its own settings are given as options={name: value}."
        )
    steps = train_in_steps(
        baseline,
        data.parts,
        owners=data.owners,
        scale=data.geometry,
        folder=config.out,
        minutes=None if seconds == float("inf") else seconds / 60,
        seed=config.seed,
        synthetic=lambda batch: _synthetic(data, batch),
        precision=config.precision,
        log=say,
    )
    set_image_rule(baseline, data, held_out=False)
    return calibrate_and_save(
        baseline,
        data,
        arguments=arguments,
        fusion="none",
        score_rule=SCORE_RULE.format(image=baseline.image_rule.in_words()),
        figures={"rotations": data.rotations, "steps": steps},
        cross=cross,
    )


def configured_baseline(config: DetectionConfig) -> tuple[Baseline, dict[str, Any]]:
    """Build the configured baseline; return it with its arguments.

    Raises ``ConfigurationError`` for an option that it does not have, or a value that one refuses.
    """
    taken = {k: v for k, v in builder_arguments(config).items() if k in RUN_ARGUMENTS}
    arguments = taken | checked_options(config)
    return build_baseline(config, arguments), arguments


def pools_scores(config: DetectionConfig) -> bool:
    """Whether scores of several fits of the configured model can be pooled (decision 18)."""
    if find_model(config.model).pools is not None or config.image_score == "chosen":
        return False
    return configured_baseline(config)[0].refits_agree


def checked_options(config: DetectionConfig) -> dict[str, Any]:
    """Return the run's options; raise ``ConfigurationError`` for one that the builder lacks."""
    parameters = inspect.signature(find_model(config.model).builder).parameters
    available = [
        name for name in parameters if name not in ("modalities", "pretrained", *RUN_ARGUMENTS)
    ]
    for name in config.options:
        if name not in available:
            others = f"its options are: {', '.join(available)}" if available else "it has none"
            raise ConfigurationError(f"{config.model} has no option {name!r}; {others}.")
    return dict(config.options)


def build_baseline(config: DetectionConfig, arguments: dict[str, Any]) -> Baseline:
    """Build the configured baseline; ``ConfigurationError`` for a value that an option refuses."""
    try:
        baseline: Baseline = find_model(config.model).builder(
            modalities=config.modalities, **arguments
        )
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        if not config.options:
            raise
        options = ", ".join(f"{name}: {value!r}" for name, value in config.options.items())
        raise ConfigurationError(
            f"{config.model} cannot be built with the options {options}: {error}"
        ) from error
    return baseline


def ignored_settings(config: DetectionConfig) -> list[str]:
    """Return the names of settings that differ from their default and that a baseline ignores."""
    changed = config.model_dump(exclude_defaults=True)
    names: list[str] = []
    for name in SEARCHED_ONLY:
        if name == "search":
            names += [f"search.{inner}" for inner in changed.get(name, {})]
        elif name in changed:
            names.append(name)
    return names


def _synthetic(data: DetectionDataModule, batch: int) -> DataLoader[Any]:
    """Load all normal parts with training's anomalies; a baseline holds none of them back."""
    parts = SyntheticParts(
        data.parts,
        numbers=range(len(data.parts)),
        generator=data.training_anomalies,
        seed=data.config.seed * 10,
        owners=data.owners,
        augmentation=data.augmentation,
    )
    return fresh_loader(
        parts,
        batch=batch,
        scale=data.geometry,
        modalities=data.config.modalities,
        shuffle=True,
        device=data.device,
    )
