"""Settings of a classifier's training that go together: as published, as we advise, and quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """What a setting is where it was not given.

    Attributes:
        rates: size of a model to highest learning rate.
        batches: size of a model to recordings in a batch.
        others: as in ``DiagnosisConfig``.
    """

    rates: Mapping[str, float]
    batches: Mapping[str, int]
    inputs: str
    views: str
    align: bool = False
    contrast: tuple[str, ...] = ("joint", "image", "series")
    modality_dropout: float = 0.6
    image_size: int = 256
    seconds: float | None = None
    fold: int = 1
    pool: str = "mean"
    smoothing: float = 0.0


PRESETS = {
    "paper": Preset(
        rates={"base": 5e-6, "small": 5e-6},
        batches={"base": 8, "small": 64},
        inputs="plain",
        views="usual",
        contrast=("joint",),
        modality_dropout=0.15,
    ),
    "recommended": Preset(
        rates={"base": 1e-4, "small": 3e-4},
        batches={"base": 8, "small": 64},
        inputs="relative",
        views="strong",
        align=True,
        smoothing=0.1,
    ),
    # Few tokens that each say much: 4 of the picture and 2 of the series instead of 856. A view
    # costs more to draw than to learn from, and held-out sessions are told apart no worse.
    "quick": Preset(
        rates={"base": 1e-4, "small": 1e-3},
        batches={"base": 8, "small": 24},
        inputs="relative",
        views="strong",
        align=True,
        image_size=32,
        fold=300,
        smoothing=0.1,
    ),
    # Of features that are computed, not learned: each recording once, whole and as it is.
    "fitted": Preset(
        rates={"small": 1.0},
        batches={"small": 16},
        inputs="plain",
        views="usual",
    ),
}
