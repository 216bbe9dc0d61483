"""Simple rivals that a network must beat to be worth its cost: features, and trees or lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from chiasm.classifiers.boosted import BoostedTrees, StandardLogistic
from chiasm.classifiers.classifier import Described, FittedClassifier, Labelled
from chiasm.classifiers.phase_statistics import (
    LEVELS,
    OPERATORS,
    PHASES,
    folded,
    statistical_operators,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import register
from chiasm.samples import DischargeBatch

HOG_SIDE, HOG_CELL, HOG_ANGLES = 128, 16, 8


class HistogramClassifier(FittedClassifier):
    """The folded histogram of the series, Gulski's operators, and trees or lines on them.

    Amplitudes count relative to the recording's own mean pulse, so gain does not matter. With
    ``aligned``, the pattern is rolled to a phase of its own first.

    Args:
        machine: fitted to the features.
        cycle: values of the series to a mains cycle.
        length: of the series that is usual, for examples.
        aligned: roll the pattern.
    """

    modalities = ("series",)

    def __init__(
        self,
        *,
        machine: BoostedTrees | StandardLogistic,
        cycle: int,
        channels: int,
        length: int,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.machine = machine
        self.cycle = cycle
        self.channels = channels
        self.length = length
        self.aligned = aligned

    def describe(self, batch: DischargeBatch) -> dict[str, Tensor]:
        """Histogram and operators ``(N, D)``."""
        self.present(batch)
        assert batch.series is not None
        series = batch.series.float()
        if series.shape[-1] < self.cycle:
            raise DataError(
                f"The series has {series.shape[-1]} values a channel, and a mains cycle "
                f"{self.cycle}: record at least one."
            )
        if self.aligned:
            series = self._aligned(series)
        pattern = folded(series, cycle=self.cycle).flatten(1)
        operators = statistical_operators(series, cycle=self.cycle)
        return {"features": torch.cat([torch.sqrt(pattern), operators], dim=1)}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit trees or lines."""
        _fit(self.machine, learning, validation, seed)

    def decide(self, described: Described) -> Tensor:
        """Logits ``(N, K)``."""
        out: Tensor = self.machine(described["features"])
        return out

    def example_batch(self, count: int = 1) -> DischargeBatch:
        """Zeros in the shape of a usual series."""
        return DischargeBatch(None, torch.zeros(count, self.channels, self.length))

    def _aligned(self, series: Tensor) -> Tensor:
        from chiasm.data.discharge.alignment import phase_reference

        by_phase = folded(series, cycle=self.cycle).sum(dim=2)  # n p
        rolled = []
        for one, weights in zip(series, by_phase):
            turn = phase_reference(np.log1p(1e3 * weights.double().numpy()))
            rolled.append(one.roll(-round(turn * self.cycle), dims=-1))
        return torch.stack(rolled)


class HogClassifier(FittedClassifier):
    """Histograms of oriented gradients of the picture, and trees on them.

    References:
        Dalal, Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
    """

    modalities = ("image",)

    def __init__(self, *, machine: BoostedTrees, image_size: int) -> None:
        super().__init__()
        self.machine = machine
        self.image_size = image_size

    def describe(self, batch: DischargeBatch) -> dict[str, Tensor]:
        """HOG ``(N, D)`` of the grey picture at 128 pixels."""
        from skimage.feature import hog

        self.present(batch)
        assert batch.image is not None
        grey = batch.image.float().mean(dim=1, keepdim=True)
        grey = torch.nn.functional.interpolate(grey, HOG_SIDE, mode="area")[:, 0]
        found = [
            hog(
                one.cpu().numpy(),
                orientations=HOG_ANGLES,
                pixels_per_cell=(HOG_CELL, HOG_CELL),
                cells_per_block=(2, 2),
            )
            for one in grey
        ]
        return {"features": torch.from_numpy(np.stack(found)).float()}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit trees."""
        _fit(self.machine, learning, validation, seed)

    def decide(self, described: Described) -> Tensor:
        """Logits ``(N, K)``."""
        out: Tensor = self.machine(described["features"])
        return out

    def example_batch(self, count: int = 1) -> DischargeBatch:
        """Zeros in the shape of a picture."""
        return DischargeBatch(torch.zeros(count, 3, self.image_size, self.image_size), None)


def _fit(
    machine: BoostedTrees | StandardLogistic, learning: Labelled, validation: Labelled, seed: int
) -> None:
    machine.fit(
        learning.described["features"],
        learning.labels,
        (validation.described["features"], validation.labels),
        seed=seed,
    )


def only(modality: str, modalities: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` where the one modality of a rival was not asked for."""
    if modality not in modalities:
        raise ConfigurationError(
            f"This rival looks at the {modality}, which is not among {', '.join(modalities)}."
        )


@register("classifier", rival=True, fitted=True)
def histogram_lightgbm(
    *,
    modalities: Sequence[str] = ("series",),
    classes: int = 5,
    channels: int = 1,
    samples_per_cycle: int = 128,
    series_length: int = 153_600,
    aligned: bool = True,
    rounds: int = 200,
) -> HistogramClassifier:
    """Folded histogram and Gulski's operators of the series, boosted trees."""
    only("series", modalities)
    return HistogramClassifier(
        machine=BoostedTrees(classes=classes, rounds=rounds),
        cycle=samples_per_cycle,
        channels=channels,
        length=series_length,
        aligned=aligned,
    )


@register("classifier", rival=True, fitted=True)
def histogram_logistic(
    *,
    modalities: Sequence[str] = ("series",),
    classes: int = 5,
    channels: int = 1,
    samples_per_cycle: int = 128,
    series_length: int = 153_600,
    aligned: bool = True,
) -> HistogramClassifier:
    """Folded histogram and Gulski's operators of the series, logistic regression."""
    only("series", modalities)
    return HistogramClassifier(
        machine=StandardLogistic(features=PHASES * LEVELS + OPERATORS, classes=classes),
        cycle=samples_per_cycle,
        channels=channels,
        length=series_length,
        aligned=aligned,
    )


@register("classifier", rival=True, fitted=True)
def hog_lightgbm(
    *,
    modalities: Sequence[str] = ("image",),
    classes: int = 5,
    image_size: int = 256,
    rounds: int = 200,
) -> HogClassifier:
    """Oriented gradients (HOG) of the picture, boosted trees."""
    only("image", modalities)
    return HogClassifier(
        machine=BoostedTrees(classes=classes, rounds=rounds), image_size=image_size
    )
