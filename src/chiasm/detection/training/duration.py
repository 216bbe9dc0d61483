"""How long a run will take, estimated from its first batch of parts and a few steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from chiasm.detection.config import DetectionConfig
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import Batch, step_losses, to_device
from chiasm.runs.final_round import epochs_in_all
from chiasm.settings import Precision
from chiasm.training.device import AUTOCAST, device_of, precision_on
from chiasm.training.progress import duration

# Relative to a step of the weights: forward and backward pass.
CLOSING = 1.0  # second, to write model and contract
VALIDATION = 1 / 3  # forward pass alone
# Steps without which a training does not learn, and a relaxed network says nothing.
LEAST_STEPS, LEAST_SEARCH_STEPS = 100, 20
STORING_SHARE = 0.5  # of the seconds that are left, for features where there is a search
LONG_STEP = 5.0  # seconds, against which what a first step prepares is nothing
COARSE = 0.4  # at half the size, of an architecture that reads some of the maps
ARCHITECTURE = {1: 0.7, 2: 2.8}  # by order; there is no such step in the first 30 % of a search


@dataclass(frozen=True, slots=True)
class RunSize:
    """Numbers of parts of a run.

    Attributes:
        training, held_out: parts and rounds of each epoch, multiplied.
        made: parts whose features are still to be stored; 0 for a source that learns.
        calibration: parts.
        batch: parts of a step.
        workers: processes that store features, judge architectures and train finalists.
    """

    training: int
    held_out: int
    made: int
    calibration: int
    batch: int
    workers: int = 1


@dataclass(frozen=True, slots=True)
class MeasuredSeconds:
    """Seconds of the first batch.

    Attributes:
        part: of making a part with an anomaly, and its features where they are stored.
        supernet, fixed: of a step of the weights, per part, of the supernet and of the
            concatenation, which reads more maps than a searched fusion.
    """

    part: float
    supernet: float
    fixed: float


def stage_seconds(
    config: DetectionConfig, size: RunSize, seconds: MeasuredSeconds
) -> dict[str, float]:
    """Estimate the seconds of each stage that is ahead.

    A source that learns makes its parts in every epoch, a frozen one only once.
    """
    fresh = seconds.part if size.made == 0 else 0.0
    validation = size.held_out * VALIDATION
    steps = max(size.training // size.batch, 1)
    stages = {"synthetic anomalies": size.made * seconds.part}
    settings = config.search
    if config.fusion in ("search", "best") and settings.evolves:
        shared = size.training + validation
        stages["shared weights"] = settings.epochs * (
            shared * seconds.fixed * COARSE + (size.training + size.held_out) * fresh
        )
        judged = settings.population * (settings.generations + 1) * size.held_out
        stages["evolution"] = judged * (VALIDATION * seconds.fixed * COARSE + fresh)
    elif config.fusion in ("search", "best"):
        relaxed = size.training * (1 + ARCHITECTURE[settings.order]) + validation
        shown = size.training + 2 * size.held_out
        stages["search"] = settings.epochs * (relaxed * seconds.supernet + shown * fresh)
    if config.fusion in ("search", "best"):
        finalists = settings.finalists + (config.fusion == "best" and not settings.evolves)
        if finalists > 1:
            epochs = max(settings.final_epochs, math.ceil(settings.final_steps / steps))
            epochs = epochs_in_all(finalists, epochs)
            stages["final round"] = _fixed_seconds(epochs, size, seconds, fresh)
    for divided in ("synthetic anomalies", "evolution", "final round"):
        if divided in stages:
            stages[divided] /= size.workers
    stages["training"] = _fixed_seconds(config.train_epochs, size, seconds, fresh)
    stages["calibration"] = size.calibration * seconds.part
    return {name: value for name, value in stages.items() if value > 0}


def searches_in_time(
    config: DetectionConfig, size: RunSize, seconds: MeasuredSeconds, *, seconds_left: float
) -> bool:
    """Return whether a budget has time for a search beside a training that learns.

    Args:
        config, size, seconds: of the run; without its supernet's steps these are not compared.
        seconds_left: of the budget, before features are stored.

    Example:
        >>> config = DetectionConfig.make(data="parts", out="run")
        >>> size = RunSize(training=640, held_out=60, made=700, calibration=20, batch=16)
        >>> seconds = MeasuredSeconds(part=0.1, supernet=0.05, fixed=0.025)
        >>> [searches_in_time(config, size, seconds, seconds_left=s) for s in (40, 400)]
        [False, True]
    """
    left = (1 - STORING_SHARE) * seconds_left
    steps = min(LEAST_STEPS, config.train_epochs * max(size.training // size.batch, 1))
    if (1 - config.search.share) * left < steps * size.batch * seconds.fixed:
        return False
    relaxed = (1 + ARCHITECTURE[config.search.order]) * seconds.supernet
    return 0.5 * config.search.share * left >= LEAST_SEARCH_STEPS * size.batch * relaxed


def reserved_seconds(size: RunSize, seconds: MeasuredSeconds) -> float:
    """Return the seconds of what follows the training: validation, score rule, calibration."""
    twice = 2 * size.held_out * VALIDATION * seconds.fixed
    counted = 2 * (seconds.part + seconds.fixed)  # of a part, whose operations are counted
    return (
        size.calibration * (seconds.part + VALIDATION * seconds.fixed) + twice + counted + CLOSING
    )


def _fixed_seconds(epochs: int, size: RunSize, seconds: MeasuredSeconds, fresh: float) -> float:
    trained = size.training + size.held_out * VALIDATION
    return epochs * (trained * seconds.fixed + (size.training + size.held_out) * fresh)


def estimate_in_words(stages: dict[str, float], *, seconds_left: float = math.inf) -> str:
    """Return the estimate as a sentence.

    Args:
        stages: seconds by stage.
        seconds_left: of the run's budget, which ends the stages earlier.

    Example:
        >>> estimate_in_words({"search": 500.0, "training": 220.0})
        'The run will take about 12 minutes: search 8 minutes, training 4 minutes.'
    """
    total = sum(stages.values())
    parts = ", ".join(f"{name} {duration(value)}" for name, value in stages.items())
    if total > seconds_left:
        return (
            f"Without a budget the run would take about {duration(total)} ({parts}); its budget "
            f"ends it after {duration(seconds_left)}."
        )
    return f"The run will take about {duration(total)}: {parts}."


def seconds_per_part(
    detector: AdnasDetector,
    batch: Batch,
    *,
    precision: Precision = "auto",
    accumulate: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Time a step of the weights on the detector's device, divided by the parts of the batch.

    The weights do not change. Of two steps the second is timed, since the first prepares the
    kernels; a first one that takes seconds is enough.
    """
    device = device_of(detector)
    batch = to_device(batch, device)
    half = AUTOCAST.get(precision_on(device, precision))
    with torch.autocast(device.type, half, enabled=half is not None):
        for _ in range(2):
            started = clock()
            for loss in step_losses(detector, batch, accumulate=accumulate):
                torch.autograd.backward(loss)
            # Read, so that a GPU has computed it.
            float(next(p.grad.sum() for p in detector.parameters() if p.grad is not None))
            seconds = clock() - started
            if seconds > LONG_STEP:
                break
    return seconds / len(batch.foreground)
