"""Trivial rivals: one number a part. What cannot beat them has learnt a shortcut, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from chiasm.detection.detector import Baseline, BaselineOutput, Described, Observe
from chiasm.errors import DataError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

Measure = Callable[[RGBDBatch], Tensor]


class TrivialNumber(Baseline):
    """How unusual one number of a part is: its distance from the normals' median, in their spread.

    The map is that score on all of the object, so its pixel figures are those of the outline.

    Args:
        measure: batch to one number a part, ``(N,)``.
        modalities: what it looks at.
    """

    steps = (Observe("usual"),)
    smoothing = 0.0

    def __init__(self, *, measure: Measure, modalities: Sequence[str]) -> None:
        super().__init__()
        self.measure = measure
        self.modalities = tuple(modalities)
        self.register_buffer("median", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self._seen: list[Tensor] = []

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """The number, and the object's outline."""
        return {"number": self.measure(batch), "foreground": batch.foreground}

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """Keep the numbers."""
        self._seen.append(described["number"])

    def finish(self, step: str) -> None:
        """Median, and median absolute deviation (at least a millionth)."""
        seen = torch.cat(self._seen)
        self._seen = []
        self.median = seen.median()
        self.spread = (seen - self.median).abs().median().clamp(min=1e-6)

    def judge(self, described: Described) -> BaselineOutput:
        """The unusualness, on all of the object."""
        score = (described["number"] - self.median).abs() / self.spread
        return BaselineOutput(raw=score.view(-1, 1, 1, 1) * described["foreground"], image=score)


@register("detector", baseline=True)
def missing_points(
    *, modalities: Sequence[str] = ("geometry",), image_size: int = 256
) -> TrivialNumber:
    """Trivial: share of the object's pixels without a 3D point."""

    def share(batch: RGBDBatch) -> Tensor:
        if batch.valid is None:
            raise DataError("The share of missing points needs 3D data, and there is none.")
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
        raise DataError(f"This trivial rival looks at {modality}, which is not among the sensors.")
    return (modality,)
