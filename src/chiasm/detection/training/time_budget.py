"""How many training parts a budget of minutes has time for, before any of them is fitted to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from chiasm.detection.config import DetectionConfig
from chiasm.detection.detector import Detector
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import estimate_geometry_scale
from chiasm.detection.rotation import MOST_ROTATIONS, TRIAL_PARTS
from chiasm.errors import DataError
from chiasm.samples import PreparedSample
from chiasm.training.device import device_of

PARTS_SHARE = 0.25  # of the minutes that are left, until the features of all parts are stored
PASSES = 3.0  # of a training part through the frozen network: memory, anomalies, held-out parts
MEASURED = 4  # parts that are timed
LEAST_PARTS = 8  # that a training keeps, whatever the budget


@dataclass(frozen=True, slots=True)
class PartSeconds:
    """Seconds of one part.

    Attributes:
        prepare: to read and prepare it.
        network: to extract its features once.
    """

    prepare: float
    network: float

    @property
    def training(self) -> float:
        """Until a training part's features are stored."""
        return self.prepare + PASSES * self.network

    @property
    def calibration(self) -> float:
        """To prepare and score a calibration part."""
        return self.prepare + self.network


def parts_in_time(
    training: int, calibration: int, seconds: PartSeconds, *, seconds_left: float
) -> int:
    """Return how many training parts a budget has time for.

    Calibration parts are all scored, since they promise the rate. At least ``LEAST_PARTS`` train.

    Args:
        training, calibration: parts of the split.
        seconds: of a part.
        seconds_left: of the budget; infinite without one.

    Example:
        >>> parts_in_time(1000, 20, PartSeconds(0.1, 0.1), seconds_left=60.0)
        27
        >>> parts_in_time(1000, 20, PartSeconds(0.1, 0.1), seconds_left=-5.0)
        8
    """
    if math.isinf(seconds_left) or seconds.training <= 0:
        return training
    share = PARTS_SHARE * seconds_left - calibration * seconds.calibration
    return min(training, max(math.floor(share / seconds.training + 1e-9), LEAST_PARTS))


def rotations_in_time(parts: int, seconds: PartSeconds, *, seconds_left: float) -> int:
    """Return at how many rotations a budget lets parts be shown, and tried before; at least 1."""
    if seconds.network <= 0:
        return MOST_ROTATIONS
    # Trying compares with and without copies, each on parts with anomalies.
    passes = PARTS_SHARE * seconds_left / seconds.network - 2 * TRIAL_PARTS - parts
    return max(1, min(MOST_ROTATIONS, math.floor(passes / (parts * (PASSES + 1)))))


def spread_evenly(total: int, count: int) -> list[int]:
    """Return the rising positions of ``count`` of ``total`` parts, from all of the recording."""
    return [position * total // count for position in range(count)]


@torch.no_grad()
def measure_part(
    parts: Sequence[PreparedSample],
    detector: Detector | None,
    config: DetectionConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> PartSeconds:
    """Time how long a few parts take to be prepared, and to pass the frozen network.

    Args:
        parts: prepared when they are read; these are read for the first time here.
        detector: whose ``frozen_pass`` is timed; None where all features learn.
        config: of the run.
        clock: returns seconds.
    """
    positions = spread_evenly(len(parts), min(MEASURED, len(parts)))
    begun = clock()
    usable: dict[int, PreparedSample] = {}
    for position in positions:
        with suppress(DataError, OSError):  # where all parts are prepared, it is told
            usable[position] = parts[position]
    positions, samples = list(usable), list(usable.values())
    prepare = (clock() - begun) / max(len(samples), 1)
    if detector is None or not samples:
        return PartSeconds(prepare, 0.0)
    scale = estimate_geometry_scale(samples, kind=config.geometry)
    batch = to_batch(
        samples, scale, modalities=config.modalities, indices=positions, device=device_of(detector)
    )
    detector.eval().frozen_pass(batch)  # the first pass prepares the kernels
    begun = clock()
    detector.frozen_pass(batch)
    return PartSeconds(prepare, (clock() - begun) / len(samples))
