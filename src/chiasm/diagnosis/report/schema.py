"""The schema of a classifier's ``metrics.json``, version 2; other content is not written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from chiasm.reporting.figure import FigureValue, SchemaModel, Share

_UpToTwo = Annotated[float, Field(ge=0.0, le=2.0)]
_Signed = Annotated[float, Field(ge=-1.0, le=1.0)]


class BrierValue(FigureValue):
    """A Brier score summed over classes, in [0, 2]."""

    value: _UpToTwo | None
    low: _UpToTwo | None
    high: _UpToTwo | None


class RecordingFigures(SchemaModel):
    """Figures of whole recordings, from the calibrated probabilities."""

    macro_f1: FigureValue = Field(
        title="macro-F1",
        description="mean over the classes; the figure for choosing and comparing models",
    )
    accuracy: FigureValue = Field(title="accuracy", description="share of correct diagnoses")
    balanced_accuracy: FigureValue = Field(
        title="balanced accuracy", description="mean recall of the classes; chance is 1 / classes"
    )
    auroc: FigureValue = Field(title="AUROC", description="each class against the rest, mean")
    ece: FigureValue = Field(
        title="calibration error (ECE)", description="15 bins of equal mass; 0 is best"
    )
    brier: BrierValue = Field(
        title="Brier score", description="squared error of the probabilities, 0 to 2; 0 is best"
    )


class CalibrationFigures(SchemaModel):
    """The temperature, and the figures without it."""

    temperature: PositiveFloat
    ece: FigureValue
    brier: BrierValue


class ClassFigures(SchemaModel):
    """Figures of one class against all others."""

    count: NonNegativeInt
    precision: FigureValue
    recall: FigureValue
    f1: FigureValue


class SplitFigures(SchemaModel):
    """The figures of one split; ``gap`` is the random split's macro-F1 minus this one's."""

    recording: RecordingFigures
    recordings: NonNegativeInt
    groups: NonNegativeInt
    gap: _Signed | None


# The model's own distance, functions in ``chiasm.metrics.open_set``, and the flow's likelihood.
OpenSetScore = Literal["distance", "max_softmax_score", "energy_score", "knn_score", "flow_nll"]


class OpenSetFigures(SchemaModel):
    """How well one score separates a class left out of training from the trained classes."""

    auroc: FigureValue
    fpr95: FigureValue


class UnknownClass(SchemaModel):
    """How recordings of one class that the model was not trained on were judged."""

    count: NonNegativeInt
    found: FigureValue = Field(title="found", description="share that was called 'unknown'")
    scores: dict[OpenSetScore, OpenSetFigures]


class UnknownFigures(SchemaModel):
    """What the model calls 'unknown'; ``share`` is what it may so call of known recordings."""

    rule: Literal["distance", "belief"]
    share: Share | None
    false_unknown: FigureValue = Field(
        title="false 'unknown'", description="share of the known recordings called 'unknown'"
    )
    kinds: dict[str, UnknownClass]


class GapFigures(SchemaModel):
    """The distance between the modalities' embeddings."""

    distance: Annotated[float, Field(ge=0.0)] | None
    variance_ratio: Annotated[float, Field(ge=0.0)] | None
    mmd: float | None


class ModalityGap(SchemaModel):
    """The gap before and after the flow; None without a flow or with one modality."""

    before: GapFigures | None
    after: GapFigures | None


class RecordingCounts(SchemaModel):
    """Numbers of recordings; ``lacking`` maps a modality to the recordings without it."""

    judged: NonNegativeInt
    groups: NonNegativeInt
    by_kind: dict[str, NonNegativeInt]
    not_judged: NonNegativeInt
    lacking: dict[str, NonNegativeInt] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> RecordingCounts:
        if sum(self.by_kind.values()) != self.judged:
            raise ValueError("the recordings of the classes do not add up to the judged ones")
        return self


class DiagnosisMetrics(SchemaModel):
    """The content of ``metrics.json``."""

    schema_name: Literal["chiasm.metrics"] = Field(alias="schema")
    version: Literal[2]
    wing: Literal["classifier"]
    split: str
    simulated: bool
    recording: RecordingFigures
    calibration: CalibrationFigures
    kinds: dict[str, ClassFigures]
    confusion: list[list[NonNegativeInt]]
    splits: dict[str, SplitFigures]
    missing: dict[str, FigureValue]
    corruptions: dict[str, FigureValue]
    open_set: dict[str, dict[OpenSetScore, OpenSetFigures]]
    unknown: UnknownFigures | None = None
    gap: ModalityGap
    trivial: dict[str, FigureValue]
    cost: dict[str, float | int | str | None]
    counts: RecordingCounts

    @model_validator(mode="after")
    def _square(self) -> DiagnosisMetrics:
        counts = [kind.count for kind in self.kinds.values()]
        if [len(row) for row in self.confusion] != [len(counts)] * len(counts):
            raise ValueError("the confusion matrix has not one row and column for each class")
        if [sum(row) for row in self.confusion] != counts:
            raise ValueError("the rows of the confusion matrix do not add up to the classes")
        return self


def validated(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics unchanged.

    Raises:
        pydantic.ValidationError: they do not fit the schema.
    """
    DiagnosisMetrics.model_validate(metrics)
    return metrics
