"""Trivial baselines: one number per part. A method that loses to them has learnt nothing useful."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep
from chiasm.errors import DataError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

Measure = Callable[[RGBDBatch], Tensor]


class TrivialNumber(Baseline):
    """Distance of one number per part from the normals' median, in units of their spread.

    The map has that score on the whole object, so that its pixel figures are those of the outline.

    Args:
        measure: batch to one number per part, ``(N,)``.
        modalities: the sensors that ``measure`` reads.
    """

    steps = (FitStep("usual"),)
    smoothing = 0.0
    median: Tensor
    spread: Tensor

    def __init__(self, *, measure: Measure, modalities: Sequence[str]) -> None:
        super().__init__()
        self.measure = measure
        self.modalities = tuple(modalities)
        self.register_buffer("median", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self._numbers: list[Tensor] = []

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute the number of each part, with its foreground."""
        return {"number": self.measure(batch), "foreground": batch.foreground}

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Collect the numbers."""
        self._numbers.append(features["number"])

    def finish_fit(self, step: str) -> None:
        """Compute median and median absolute deviation, the latter at least 1e-6."""
        numbers = torch.cat(self._numbers)
        self._numbers = []
        self.median = numbers.median()
        self.spread = (numbers - self.median).abs().median().clamp(min=1e-6)

    def predict(self, features: Features) -> BaselineOutput:
        """Return the score of each part, on its whole object."""
        score = (features["number"] - self.median).abs() / self.spread
        return BaselineOutput(raw=score.view(-1, 1, 1, 1) * features["foreground"], image=score)


@register("detector", baseline=True)
def missing_points(
    *, modalities: Sequence[str] = ("geometry",), image_size: int = 256
) -> TrivialNumber:
    """Trivial: share of the object's pixels without a 3D point."""

    def share(batch: RGBDBatch) -> Tensor:
        if batch.valid is None:
            raise DataError("The share of missing points needs 3D data, and this part has none.")
        missing = batch.foreground * (1 - batch.valid)
        return missing.sum(dim=(1, 2, 3)) / batch.foreground.sum(dim=(1, 2, 3)).clamp(min=1)

    return TrivialNumber(measure=share, modalities=_only("geometry", modalities))


@register("detector", baseline=True)
def brightness(*, modalities: Sequence[str] = ("rgb",), image_size: int = 256) -> TrivialNumber:
    """Trivial: mean brightness of the object."""

    def mean(batch: RGBDBatch) -> Tensor:
        assert batch.rgb is not None
        bright = (batch.rgb.mean(dim=1, keepdim=True) * batch.foreground).sum(dim=(1, 2, 3))
        return bright / batch.foreground.sum(dim=(1, 2, 3)).clamp(min=1)

    return TrivialNumber(measure=mean, modalities=_only("rgb", modalities))


@register("detector", baseline=True)
def area(
    *, modalities: Sequence[str] = ("rgb", "geometry"), image_size: int = 256
) -> TrivialNumber:
    """Trivial: share of the crop that the object covers."""
    return TrivialNumber(
        measure=lambda batch: batch.foreground.mean(dim=(1, 2, 3)), modalities=modalities
    )


def _only(modality: str, modalities: Sequence[str]) -> tuple[str, ...]:
    if modality not in modalities:
        raise DataError(
            f"This trivial baseline reads {modality}, which is not among the modalities."
        )
    return (modality,)
