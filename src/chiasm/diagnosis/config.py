"""One validated description of a classifier's training run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from chiasm.diagnosis.decision import UnknownBy
from chiasm.diagnosis.preparation.relative import GROUP
from chiasm.registry import RegisteredModel, choices, find_model, models
from chiasm.settings import DeviceName, Precision, SearchSettings, Settings

_EVERY_PRESET: Mapping[str, Any] = {
    "inputs": "relative",
    "views": "strong",
    "shortest_view": 0.0,
    "align": True,
    "contrast": ("joint", "image", "series"),
    "modality_dropout": 0.6,
    "image_size": 256,
    "seconds": 0.0,
    "fold": 1,
    "series_tokens": "segments",
    "pool": "mean",
    "smoothing": 0.1,
}

# Settings by preset; what depends on the size of the model is a mapping of sizes.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        **_EVERY_PRESET,
        "learning_rate": 5e-6,
        "batch": {"base": 8, "small": 64},
        "inputs": "plain",
        "views": "usual",
        "align": False,
        "contrast": ("joint",),
        "modality_dropout": 0.0,
        "smoothing": 0.0,
    },
    "recommended": {
        **_EVERY_PRESET,
        "learning_rate": {"base": 1e-4, "small": 3e-4},
        "batch": {"base": 8, "small": 64},
    },
    # Few tokens that carry much each: 4 of the picture and 8 of the series instead of 856. To draw
    # a view costs more than a step on it, and held-out sessions are classified no worse. Views of
    # series are weak, because what is counted against the noise floor is to stay as it is.
    "quick": {
        **_EVERY_PRESET,
        "views": "strong_pictures",
        "shortest_view": 0.2,
        "series_tokens": "phases",
        "learning_rate": {"base": 1e-4, "small": 1e-3},
        "batch": {"base": 8, "small": 24},
        "image_size": 32,
        "fold": 300,
    },
    # Features are computed, not trained: each recording is used once, whole and unchanged.
    "fitted": {
        **_EVERY_PRESET,
        "learning_rate": 1.0,
        "batch": 16,
        "inputs": "plain",
        "views": "usual",
        "align": False,
        "smoothing": 0.0,
    },
    # The same, of the inputs that the network of the quick preset gets.
    "folded": {
        **_EVERY_PRESET,
        "learning_rate": 1.0,
        "batch": 16,
        "views": "usual",
        "smoothing": 0.0,
        "image_size": 32,
        "fold": 300,
    },
}

# Presets of classifiers without gradient steps.
_FITTED = ("fitted", "folded")

# Values in a token of models that do not say, and the side of a picture's token in pixels.
SEGMENT = 256
PATCH = 16

FROM_PRESET: Any = None

# Arguments of builders that a run fills in from its recordings.
FROM_DATA = frozenset(("classes", "channels", "series_length", "samples_per_cycle"))


def _names() -> list[str]:
    """Return what a run may be told to train."""
    return [model.name for model in (*models("classifier"), *choices("classifier"))]


def preset_values(model: RegisteredModel, preset: str | None) -> dict[str, Any]:
    """Return the settings that a preset has for a model; None takes the model's own preset."""
    name = preset or model.preset or ("fitted" if model.fitted else "recommended")
    segment = inspect.signature(model.builder).parameters.get("segment")
    values = {
        key: value[model.size] if isinstance(value, Mapping) else value
        for key, value in PRESETS[name].items()
    }
    return {"preset": name, "segment": segment.default if segment else SEGMENT, **values}


class DiagnosisConfig(Settings):
    """Everything that decides a run's result; written to ``config.yaml`` in its folder.

    Settings that are None take the preset's value; ``make`` fills it in.

    Attributes:
        data: AI-Hub folder, store or manifest with the recordings.
        out: the run's folder.
        model: registered builder; ``auto`` trains trees, MiniROCKET and MAD, and the validation
            recordings choose one.
        modalities: ``image``, ``series`` or both.
        flow: ``coupling``, or ``identity`` for a model without flows.
        gate, experts: of the mixtures in the encoder.
        pool: ``mean`` over all tokens, as in the paper, or ``modality_mean``: over the tokens of
            each modality, then over modalities, which weighs them equally. None takes the preset's.
        segment: values of the series in a token; None takes the model's own.
        polarity: how recorders write series: ``unipolar`` (magnitudes), ``bipolar``, ``negative``
            (pulses downwards) or ``decibel``; ``auto`` tells it from the training series.
        cycle_values: values of a mains cycle that the network takes; the peaks of series with
            another number are held.
        preset: ``paper``, ``recommended`` or, for minutes on a processor, ``quick``; sets
            learning_rate, batch, inputs, views, align, contrast, modality_dropout, image_size,
            seconds, fold, pool and smoothing. ``fitted`` and ``folded`` are for classifiers
            without gradient steps. None takes the model's own.
        image_size: side of the picture in pixels, a multiple of 16; None takes the preset's.
        inputs: ``plain``: series divided by a scale, pictures unchanged. ``standardised``: without
            the quiet level and the ground's colour, and at a standard deviation of 1, which trains
            faster. ``relative``: also with amplitudes relative to the recording's own pulses,
            independent of the gain (pictures only with ``picture_gain``). None takes the preset's.
        align: roll relative inputs to a reference phase of their own: the parts of a pattern
            relative to each other tell faults apart, and the recorder's phase is often another
            conductor's. None takes the preset's.
        views: ``usual``, ``strong`` against overfitting to sessions, or ``strong_pictures``:
            strong ones of pictures alone. None takes the preset's.
        shortest_view: seconds; above 0, half of the batches have series of random length from here
            to the whole one, for models that are to diagnose short recordings, too. None takes
            the preset's.
        split_by: ``session``, ``equipment``, any other kind of group, or ``random``.
        test_group: one group of the kind ``split_by`` that is the test; overrides ``shares``.
        strict: stop where a file is damaged, instead of leaving out the few recordings that
            cannot be used.
        left_out: classes that are left out of the training, to evaluate how unknown ones are
            recognised.
        shares: of training, validation and test.
        seconds: length of a view of the series, and of the windows of a diagnosis; 0 takes the
            whole series, None the preset's.
        fold: neighbouring mains cycles of relative series that are added up to one, so that a
            processor needs no longer for a whole recording than for an excerpt. If a token is a
            whole number of pairs of cycles, an even number becomes two: clear pulses, and how often
            levels of the noise floor are passed at each phase. None takes the preset's.
        series_tokens: of MAD: ``segments`` of the series, as in the paper; ``phases``, four of
            which make a token, of folded series with excess; or ``kernels``, how often MiniROCKET's
            answer within a segment, for waveforms. None takes the preset's, and ``kernels`` without
            a mains.
        windows: number of windows whose embeddings are averaged; None covers the whole series, up
            to 5.
        pretrain_epochs: of contrast; 0 trains by cross-entropy alone.
        epochs: of cross-entropy, at most; ``patience`` without a better macro-F1 ends it.
        patience: epochs.
        batch, learning_rate: None takes the preset's.
        flow_weight: of the flows' likelihood in the first stage; the paper's procedure has 0.
        contrast: vectors that the first stage contrasts: ``joint``, as in the paper, and names of
            modalities. None takes the preset's.
        smoothing: share of the label that the second stage gives to all classes alike, against
            overfitting to few sessions. None takes the preset's.
        modality_dropout: probability that a batch lacks one modality; None takes the preset's.
        phase: ``none`` for signals without a mains, such as single transients: then nothing is
            aligned or folded, and series are standardised instead of counted by phase.
        phase_unknown: the phase of the recordings is unknown, and inputs are not aligned: views
            roll by any angle.
        picture_gain: views of pictures grow and shrink with the gain, from their lower edge; off
            for instruments that do not draw amplitude 0 there.
        unknown_by: what makes a recording 'unknown': its ``distance`` from the recordings of every
            trained class by statistics that need no model, too small a ``belief`` in the likeliest
            class, or ``both``, each with half of the share.
        unknown_share: of the right diagnoses of validation that may be called 'unknown'.
        minutes: budget of both stages together; None is none.
        loading_workers: processes that make batches; 0 makes them in this one.
        precision: of training; ``auto`` is bfloat16 if the device multiplies it and the network is
            large enough to gain from it, and ``fp16`` on a CUDA GPU without.
        device: that computes everything: ``auto`` (the first CUDA GPU, or the processor), ``cpu``,
            ``cuda``, ``cuda:N`` or ``mps``. A run may be continued on another one.
        cache: folder for the converted store; None takes the user's cache folder.
        seed: of every random number.
        fusion: of a model whose fusion is searched: ``search`` (as with None), ``best`` (the knee
            of what an evolution finds), ``concatenation`` (hand-made), ``random`` or a genotype
            file.
        search: how the fusion is searched.
        options: further arguments of the model's builder, by name.
        start_from: folder of a run whose model these recordings are to adapt (``--from``): a
            network goes on with its weights, at a lower rate and without a first stage; methods
            that are fitted are fitted to the recordings of both.
        adaptation: of a network with ``start_from``: ``fine_tune``, or ``nearest``: the weights
            stay, and the class with the nearest mean of the embedding is the diagnosis, which
            needs few recordings and a second.
    """

    RENAMED: ClassVar[dict[str, str]] = {"workers": "loading_workers"}

    data: Path
    out: Path
    model: str = "mad_small"
    modalities: tuple[Literal["image", "series"], ...] = Field(("image", "series"), min_length=1)
    flow: Literal["coupling", "identity"] = "coupling"
    gate: Literal["softmax", "uniform", "top1"] = "softmax"
    experts: int = Field(2, ge=1)
    pool: Literal["mean", "modality_mean"] = FROM_PRESET
    segment: int = Field(FROM_PRESET, ge=1)
    polarity: Literal["auto", "unipolar", "bipolar", "negative", "decibel"] = "auto"
    cycle_values: int = Field(128, ge=32, le=1024, multiple_of=32)
    preset: Literal["paper", "recommended", "quick", "fitted", "folded"] = FROM_PRESET
    image_size: int = Field(FROM_PRESET, ge=16, le=1024, multiple_of=16)
    inputs: Literal["plain", "standardised", "relative"] = FROM_PRESET
    align: bool = FROM_PRESET
    views: Literal["usual", "strong", "strong_pictures"] = FROM_PRESET
    shortest_view: float = Field(FROM_PRESET, ge=0)
    split_by: str = "session"
    test_group: str | None = None
    strict: bool = False
    left_out: tuple[str, ...] = ()
    shares: tuple[float, float, float] = (0.45, 0.05, 0.5)
    seconds: float = Field(FROM_PRESET, ge=0)
    fold: int = Field(FROM_PRESET, ge=1)
    series_tokens: Literal["segments", "phases", "kernels"] = FROM_PRESET
    windows: int | None = Field(None, ge=1)
    pretrain_epochs: int = Field(50, ge=0)
    epochs: int = Field(100, ge=1)
    patience: int = Field(20, ge=1)
    batch: int = Field(FROM_PRESET, ge=2)
    learning_rate: float = Field(FROM_PRESET, gt=0)
    flow_weight: float = Field(0.0, ge=0)
    contrast: tuple[Literal["joint", "image", "series"], ...] = Field(FROM_PRESET, min_length=1)
    smoothing: float = Field(FROM_PRESET, ge=0, lt=1)
    modality_dropout: float = Field(FROM_PRESET, ge=0, le=1)
    phase: Literal["mains", "none"] = "mains"
    phase_unknown: bool = False
    picture_gain: bool = True
    unknown_by: UnknownBy = "distance"
    unknown_share: float = Field(0.05, ge=0, lt=1)
    minutes: float | None = Field(None, gt=0)
    loading_workers: int = Field(0, ge=0)
    precision: Precision = "auto"
    device: DeviceName = "auto"
    cache: Path | None = None
    seed: int = Field(42, ge=0)
    fusion: str | None = None
    search: SearchSettings = SearchSettings(epochs=10, held_out=0.3, finalists=4, final_steps=0)
    options: dict[str, Any] = Field(default_factory=dict)
    start_from: Path | None = None
    adaptation: Literal["fine_tune", "nearest"] = "fine_tune"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Replace what is not given, or None, by the value of the preset."""
        name = values.get("model", cls.model_fields["model"].default)
        preset = values.get("preset")
        if name not in _names() or preset not in (None, *PRESETS):
            return values  # and the field's own check says what is wrong
        defaults = {
            **preset_values(find_model(name), preset),
            "search": cls.model_fields["search"].default,
        }
        model, wanted = find_model(name), cls._split(values.get("modalities") or ())
        if model.takes and len(wanted) > 1:
            raise ValueError(
                f"{name} looks at one modality: give modalities={model.takes[0]} or "
                f"modalities={model.takes[-1]}, or take both by model=late_average "
                f"'options={{image: {name}, series: {name}}}'"
            )
        overrides = {k: v for k, v in values.items() if v is not None or k not in defaults}
        return {**defaults, **overrides}

    @field_validator("model")
    @classmethod
    def _exists(cls, value: str) -> str:
        names = _names()
        if value not in names:
            raise ValueError(f"there is no classifier {value!r}; there are: {', '.join(names)}")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Leave out what has no effect on this model: the contract is not to claim it."""
        modalities = find_model(self.model).modalities_of(self.modalities)
        if not modalities:
            both = type(self).model_fields["modalities"].default
            default = find_model(self.model).modalities_of(both)
            raise ValueError(f"{self.model} takes {', '.join(default)} alone")
        inputs = self.inputs
        if self.phase == "none" and inputs == "relative":
            inputs = "standardised"
        relative = inputs == "relative"
        # The vector of a single modality is the joint one.
        parts = ("joint", *modalities) if len(modalities) > 1 else ("joint",)
        effective = {
            "modalities": modalities,
            "inputs": inputs,
            "align": self.align and relative,
            "fold": self.fold if relative else 1,  # only counts can be added up
            "contrast": tuple(part for part in self.contrast if part in parts) or ("joint",),
            "series_tokens": self._series_tokens(inputs),
        }
        for name, value in effective.items():
            object.__setattr__(self, name, value)
        return self

    def _series_tokens(self, inputs: str) -> str:
        """Return the tokens of the series that were asked for, or that fit the inputs.

        Raises:
            ValueError: tokens by phase were asked for, and the inputs have no phases.
        """
        if (
            self.series_tokens
            == preset_values(find_model(self.model), self.preset)["series_tokens"]
        ):
            return self._fitting_tokens(inputs)
        if self.series_tokens == "phases" and not (inputs == "relative" and self.counts_excess):
            raise ValueError(
                "tokens by phase are of folded cycles: take preset=quick, or an even 'fold' "
                "above 1 with inputs=relative"
            )
        return self.series_tokens

    def _fitting_tokens(self, inputs: str) -> str:
        """Return the preset's tokens of the series, or those that fit where these do not."""
        model = find_model(self.model)
        by_preset = str(preset_values(model, self.preset)["series_tokens"])
        if "series_tokens" not in inspect.signature(model.builder).parameters:
            return by_preset
        if self.phase == "none" and self.preset != "paper":
            return "kernels"
        folded = inputs == "relative" and self.counts_excess
        return by_preset if folded or by_preset != "phases" else "segments"

    @field_validator("modalities", "contrast", "shares", "left_out", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("shares")
    @classmethod
    def _sums(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or not math.isclose(sum(value), 1, abs_tol=1e-6) or not value[1]:
            raise ValueError("three shares that sum to 1 are expected, that of validation above 0")
        return value

    @classmethod
    def presets(cls, model: RegisteredModel) -> dict[str, str]:
        """Return by name what each preset sets for a model, as YAML."""
        content = {}
        for name in (n for n in PRESETS if (n in _FITTED) == model.fitted):
            values = preset_values(model, name)
            plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
            content[name] = yaml.safe_dump(plain, sort_keys=False)
        return content

    def overrides(self) -> dict[str, Any]:
        """Return the settings that differ from what the model and the preset set."""
        model = find_model(self.model)
        defaults = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in type(self).model_fields.items()
        }
        defaults |= preset_values(model, self.preset)
        defaults["preset"] = preset_values(model, None)["preset"]
        defaults["series_tokens"] = self._fitting_tokens(self.inputs)
        return {name: value for name, value in self if value != defaults[name]}

    def tokens(self, *, seconds: int = 20, frequency: int = 60) -> dict[str, int]:
        """Return modality to the tokens that MAD's networks have of a recording of some seconds."""
        tokens = {}
        if "image" in self.modalities:
            tokens["image"] = (self.image_size // PATCH) ** 2
        if "series" in self.modalities:
            shown = min(seconds, self.seconds) if self.seconds else seconds
            cycles = round(shown * frequency)
            folded = cycles // self.fold * (2 if self.counts_excess else 1)
            tokens["series"] = max(1, folded * self.cycle_values // self.segment)
            if self.series_tokens == "phases":  # four phases of four levels each
                tokens["series"] = self.cycle_values // (4 * GROUP)
        return tokens

    @property
    def counts_excess(self) -> bool:
        """Whether folded cycles become two: clear pulses, and excess over the floor."""
        least = math.lcm(self.segment, self.cycle_values) // self.cycle_values
        return self.fold > 1 and not (self.fold % 2 or least % 2 or self.cycle_values % GROUP)

    def builder_arguments(self) -> dict[str, Any]:
        """Return the settings that the model's builder takes; the data set the others."""
        return {
            "modalities": list(self.modalities),
            "flow": self.flow,
            "gate": self.gate,
            "experts": self.experts,
            "pool": self.pool,
            "segment": self.segment,
            "image_size": self.image_size,
            "series_tokens": self.series_tokens,
            **self.options,
        }
