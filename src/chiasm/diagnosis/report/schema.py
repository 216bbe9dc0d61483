"""The schema of a classifier's ``metrics.json``; what does not fit it is not written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from chiasm.reporting.figure import FigureValue, Part

_UpToTwo = Annotated[float, Field(ge=0.0, le=2.0)]
_Signed = Annotated[float, Field(ge=-1.0, le=1.0)]


class BrierValue(FigureValue):
    """A Brier score summed over classes, in [0, 2]."""

    value: _UpToTwo | None
    low: _UpToTwo | None
    high: _UpToTwo | None


class RecordingFigures(Part):
    """Figures of whole recordings; probabilities are those after temperature."""

    macro_f1: FigureValue
    accuracy: FigureValue
    balanced_accuracy: FigureValue
    auroc: FigureValue
    ece: FigureValue
    brier: BrierValue


class CalibrationFigures(Part):
    """The temperature, and the figures without it."""

    temperature: PositiveFloat
    ece: FigureValue
    brier: BrierValue


class ClassFigures(Part):
    """How one class is told from all others."""

    count: NonNegativeInt
    precision: FigureValue
    recall: FigureValue
    f1: FigureValue


class SplitFigures(Part):
    """The figures of one split; ``gap`` is by how much the random split's macro-F1 is higher."""

    recording: RecordingFigures
    recordings: NonNegativeInt
    groups: NonNegativeInt
    gap: _Signed | None


class OpenSetFigures(Part):
    """How one score tells a class that was never learnt from those that were."""

    auroc: FigureValue
    fpr95: FigureValue


class GapFigures(Part):
    """How far apart the modalities lie."""

    distance: Annotated[float, Field(ge=0.0)] | None
    variance_ratio: Annotated[float, Field(ge=0.0)] | None
    mmd: float | None


class ModalityGap(Part):
    """Before and after the flow; None where there is no flow or one modality alone."""

    before: GapFigures | None
    after: GapFigures | None


class RecordingCounts(Part):
    """How many recordings the figures are about; ``lacking`` some modality, by its name."""

    judged: NonNegativeInt
    groups: NonNegativeInt
    by_kind: dict[str, NonNegativeInt]
    not_judged: NonNegativeInt
    lacking: dict[str, NonNegativeInt] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> RecordingCounts:
        if sum(self.by_kind.values()) != self.judged:
            raise ValueError("the classes' recordings do not add up to the judged ones")
        return self


class DiagnosisMetrics(Part):
    """The whole of ``metrics.json``."""

    schema_name: Literal["chiasm.metrics"] = Field(alias="schema")
    version: Literal[1]
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
    open_set: dict[str, dict[str, OpenSetFigures]]
    gap: ModalityGap
    trivial: dict[str, FigureValue]
    cost: dict[str, float | int | str | None]
    counts: RecordingCounts

    @model_validator(mode="after")
    def _square(self) -> DiagnosisMetrics:
        wanted = [self.kinds[kind].count for kind in self.kinds]
        if [len(row) for row in self.confusion] != [len(wanted)] * len(wanted):
            raise ValueError("the confusion matrix has not one row and column for each class")
        if [sum(row) for row in self.confusion] != wanted:
            raise ValueError("the rows of the confusion matrix do not add up to the classes")
        return self


def validated(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics unchanged.

    Raises:
        pydantic.ValidationError: they do not fit the schema.
    """
    DiagnosisMetrics.model_validate(metrics)
    return metrics
