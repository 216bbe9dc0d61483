"""One validated description of a classifier's training run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chiasm.diagnosis.models import named as _registers_classifiers  # noqa: F401
from chiasm.registry import find_model, models
from chiasm.settings import Settings


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


class SearchSettings(BaseModel):
    """Settings of the search alone; ``search={finalists: 6, epochs: 10}`` on the command line.

    Attributes:
        epochs: passes of the weights over their share of the training recordings; the budget may
            end them earlier.
        held_out: share of the training sessions that the architecture's steps see, and the
            weights do not.
        order: 1 alternates (default), 2 unrolls one weight step (DARTS).
        rate: learning rate of the architecture.
        finalists: architectures that are proposed; each is trained for ``final_epochs``, and the
            best on validation recordings is kept. 1 takes the strongest as it is.
        share: of the run's minutes; the rest trains what was found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(10, ge=1)
    held_out: float = Field(0.3, gt=0, lt=1)
    order: Literal[1, 2] = 1
    rate: float = Field(0.05, gt=0)
    finalists: int = Field(4, ge=1)
    final_epochs: int = Field(4, ge=1)
    share: float = Field(0.5, gt=0, lt=1)


SEGMENTS = {"base": 60, "small": 256}


class DiagnosisConfig(Settings):
    """Everything that decides a run's result; written to ``config.yaml`` in its folder.

    Attributes:
        data: AI-Hub folder, store or manifest to learn from.
        out: the run's folder.
        model: registered builder.
        modalities: ``image``, ``series`` or both.
        flow: ``coupling``, or ``identity`` to leave it out.
        gate, experts: of the mixtures in the encoder.
        pool: ``mean`` over all tokens, as the paper, or ``modality_mean``: over those of each
            modality, then over modalities, so that none is outnumbered. None takes the preset's.
        segment: values of the series to a token; None takes the model's own.
        preset: ``paper``, ``recommended`` or, for minutes on a processor, ``quick``: what learning
            rate, batch, inputs, views, contrast, modality_dropout, image_size and seconds are
            where not given. ``fitted`` is of
            classifiers without gradient steps; None takes the model's own.
        image_size: side of the picture in pixels, a multiple of 16; None takes the preset's.
        inputs: ``plain``: series divided by a scale, pictures as they are. ``standardised``:
            without the quiet level and the ground's colour, and at a standard deviation of 1,
            from which much is learned sooner. ``relative``: amplitudes relative to the recording's
            own pulses as well, whatever the gain (pictures only with ``picture_gain``). None takes
            the preset's.
        align: roll relative inputs to a phase of their own: what tells faults apart is how the
            parts of a pattern lie to each other, and the recorder's phase is often another
            conductor's. None takes the preset's.
        views: ``usual``, or ``strong`` against learning the sessions; None takes the preset's.
        split_by: ``session``, ``equipment``, any other kind of group, or ``random``.
        test_group: one group of the kind ``split_by`` that is the test, whatever ``shares`` says.
        left_out: classes that are not learned, to see whether they are noticed.
        shares: of training, validation and test.
        seconds: of the series that a view shows; None takes the preset's, and 0 shows all.
            Diagnoses see windows of that length.
        fold: neighbouring mains cycles of relative series that are added up to one, so that a
            whole recording takes a processor no longer than an excerpt. Where a token is a whole
            number of pairs of cycles, an even number becomes two: clear pulses, and how often
            levels of the noise floor are passed at each phase. None takes the preset's.
        windows: so many, whose embeddings are averaged; None covers the whole series, up to 5.
        pretrain_epochs: of contrast; 0 trains by cross-entropy alone.
        epochs: of cross-entropy, at most; ``patience`` without a better macro-F1 ends it.
        patience: epochs.
        batch, learning_rate: None takes the preset's.
        flow_weight: of the flows' likelihood, in the first stage; the paper's procedure has 0.
        contrast: what the first stage contrasts: ``joint``, as the paper, or modalities as well.
            None takes the preset's.
        smoothing: share of the label that the second stage gives to all classes alike; few sessions
            are otherwise learned by heart. None takes the preset's.
        modality_dropout: probability that a batch lacks one modality; None takes the preset's.
        phase_unknown: recordings do not know where their phase begins, and inputs are not aligned:
            views roll by any angle.
        picture_gain: views of pictures grow and shrink with the gain, from their lower edge; off
            for instruments that do not draw amplitude 0 there.
        unknown_share: of the right diagnoses of validation that may be called 'unknown'.
        minutes: budget of both stages together; None is none.
        workers: processes that make batches; 0 makes them in this one.
        precision: of training; ``auto`` is bfloat16 where the hardware multiplies it and the
            network is large enough to gain from it.
        cache: folder for the converted store; None takes the user's cache folder.
        seed: of everything.
        fusion: of a model that is searched: ``search`` (as with None), ``concatenation``
            (hand-made), ``random`` or a genotype file.
        search: how it is searched; None takes the usual settings.
        options: further arguments of the model's builder, by name.
    """

    data: Path
    out: Path
    model: str = "mad_small"
    modalities: tuple[Literal["image", "series"], ...] = Field(("image", "series"), min_length=1)
    flow: Literal["coupling", "identity"] = "coupling"
    gate: Literal["softmax", "uniform", "top1"] = "softmax"
    experts: int = Field(2, ge=1)
    pool: Literal["mean", "modality_mean"] | None = None
    segment: int | None = Field(None, ge=1)
    preset: Literal["paper", "recommended", "quick", "fitted"] | None = None
    image_size: int | None = Field(None, ge=16, le=1024, multiple_of=16)
    inputs: Literal["plain", "standardised", "relative"] | None = None
    align: bool | None = None
    views: Literal["usual", "strong"] | None = None
    split_by: str = "session"
    test_group: str | None = None
    left_out: tuple[str, ...] = ()
    shares: tuple[float, float, float] = (0.45, 0.05, 0.5)
    seconds: float | None = Field(None, ge=0)
    fold: int | None = Field(None, ge=1)
    windows: int | None = Field(None, ge=1)
    pretrain_epochs: int = Field(50, ge=0)
    epochs: int = Field(100, ge=1)
    patience: int = Field(20, ge=1)
    batch: int | None = Field(None, ge=2)
    learning_rate: float | None = Field(None, gt=0)
    flow_weight: float = Field(0.0, ge=0)
    contrast: tuple[Literal["joint", "image", "series"], ...] | None = Field(None, min_length=1)
    smoothing: float | None = Field(None, ge=0, lt=1)
    modality_dropout: float | None = Field(None, ge=0, le=1)
    phase_unknown: bool = False
    picture_gain: bool = True
    unknown_share: float = Field(0.05, ge=0, lt=1)
    minutes: float | None = Field(None, gt=0)
    workers: int = Field(0, ge=0)
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    cache: Path | None = None
    seed: int = Field(42, ge=0)
    fusion: str | None = None
    search: SearchSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("model")
    @classmethod
    def _exists(cls, value: str) -> str:
        there = [model.name for model in models("classifier")]
        if value not in there:
            raise ValueError(f"there is no classifier {value!r}; there are: {', '.join(there)}")
        return value

    @model_validator(mode="after")
    def _look(self) -> Self:
        """Leave out what the model does not look at: contract and report are not to claim it."""
        default = inspect.signature(find_model(self.model).builder).parameters["modalities"].default
        seen = tuple(m for m in self.modalities if m in default)
        if not seen:
            raise ValueError(f"{self.model} looks at {', '.join(default)} alone")
        object.__setattr__(self, "modalities", seen)
        return self

    @field_validator("modalities", "contrast", "shares", "left_out", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("shares")
    @classmethod
    def _sums(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or not math.isclose(sum(value), 1, abs_tol=1e-6) or not value[1]:
            raise ValueError("three shares that sum to 1 are needed, that of validation above 0")
        return value

    @property
    def usual(self) -> Preset:
        """The preset, given or the model's own."""
        fitted = find_model(self.model).fitted
        return PRESETS[self.preset or ("fitted" if fitted else "recommended")]

    @property
    def size(self) -> str:
        """Of the model: ``"base"`` or ``"small"``."""
        return "base" if self.model.endswith("_base") else "small"

    @property
    def rate(self) -> float:
        """The highest learning rate, given or the preset's."""
        return self.learning_rate or self.usual.rates[self.size]

    @property
    def standardised(self) -> bool:
        """Whether inputs are standardised, given or by the preset."""
        return (self.inputs or self.usual.inputs) != "plain"

    @property
    def relative(self) -> bool:
        """Whether amplitudes are relative to the recording's own, given or by the preset."""
        return (self.inputs or self.usual.inputs) == "relative"

    @property
    def aligned(self) -> bool:
        """Whether patterns are rolled to a phase of their own."""
        wanted = self.usual.align if self.align is None else self.align
        return wanted and self.relative

    @property
    def folded(self) -> int:
        """Cycles that become one, given or the preset's; counts alone can be added up."""
        return (self.fold or self.usual.fold) if self.relative else 1

    @property
    def strong(self) -> bool:
        """Whether views are strong, given or by the preset."""
        return (self.views or self.usual.views) == "strong"

    @property
    def contrasted(self) -> tuple[str, ...]:
        """What the first stage contrasts, given or the preset's, of what the network looks at."""
        parts = self.contrast or self.usual.contrast
        one = len(self.modalities) == 1  # whose own vector is the joint one
        return tuple(p for p in parts if p == "joint" or (p in self.modalities and not one)) or (
            "joint",
        )

    @property
    def dropout(self) -> float:
        """Probability that a batch lacks a modality, given or the preset's."""
        if self.modality_dropout is None:
            return self.usual.modality_dropout
        return self.modality_dropout

    @property
    def smoothed(self) -> float:
        """Share of the label that goes to all classes, given or the preset's."""
        return self.usual.smoothing if self.smoothing is None else self.smoothing

    @property
    def batch_size(self) -> int:
        """Recordings in a batch, given or the preset's."""
        return self.batch or self.usual.batches[self.size]

    @property
    def pixels(self) -> int:
        """Side of the picture, given or the preset's."""
        return self.image_size or self.usual.image_size

    @property
    def view_seconds(self) -> float | None:
        """Seconds of the series in a view, given or the preset's; None is all."""
        return (self.usual.seconds if self.seconds is None else self.seconds) or None

    @property
    def token(self) -> int:
        """Values to a token, given or the model's own."""
        return self.segment or SEGMENTS[self.size]

    def builder_arguments(self) -> dict[str, Any]:
        """What the model's builder takes; classes and channels are the data's."""
        return {
            "modalities": list(self.modalities),
            "flow": self.flow,
            "gate": self.gate,
            "experts": self.experts,
            "pool": self.pool or self.usual.pool,
            "segment": self.token,
            "image_size": self.pixels,
            **self.options,
        }
