"""The schema of a detector's ``metrics.json``, checked before it is written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, model_validator

from chiasm.reporting.figure import FigureValue, SchemaModel


def _limit(text: str) -> str:
    """Accept ``"0.3"``: a false-positive rate above 0 and at most 1."""
    if not 0.0 < float(text) <= 1.0:
        raise ValueError(f"{text} is not a false-positive rate in (0, 1]")
    return text


ByLimit = dict[Annotated[str, AfterValidator(_limit)], FigureValue]


class ImageFigures(SchemaModel):
    """Figures of whole parts; the two rates are those of the decisions."""

    auroc: FigureValue = Field(
        title="AUROC", description="ranking of defective above good parts; 0.5 is chance"
    )
    ap: FigureValue = Field(title="average precision", description="mean precision over recall")
    f1_max: FigureValue = Field(
        title="best F1", description="at the threshold that is best on these parts"
    )
    false_alarm_rate: FigureValue = Field(
        title="false alarms", description="share of good parts that raised an alarm"
    )
    missed_rate: FigureValue = Field(
        title="missed", description="share of defective parts that raised none"
    )


class PixelFigures(SchemaModel):
    """Figures over all pixels."""

    auroc: FigureValue
    ap: FigureValue


class RegionFigures(SchemaModel):
    """AUPRO by limit of the false-positive rate."""

    aupro: ByLimit


class ObjectFigures(PixelFigures):
    """Pixel and region figures with good pixels on the object only."""

    aupro: ByLimit


class KindFigures(SchemaModel):
    """Figures of one kind of defect against all good parts."""

    count: NonNegativeInt
    image_auroc: FigureValue
    pixel_ap: FigureValue
    aupro: FigureValue


class TrivialFigures(SchemaModel):
    """Baselines without a model; the pixel figures are those of the object's outline."""

    image: dict[str, FigureValue]
    pixel: ObjectFigures | dict[str, FigureValue]


class Counts(SchemaModel):
    """Numbers of parts."""

    judged: NonNegativeInt
    good: NonNegativeInt
    defective: NonNegativeInt
    not_judged: NonNegativeInt
    without_mask: NonNegativeInt = 0

    @model_validator(mode="after")
    def _complete(self) -> Counts:
        if self.good + self.defective != self.judged:
            raise ValueError("good and defective parts do not add up to the judged parts")
        return self


class Metrics(SchemaModel):
    """Content of ``metrics.json``."""

    schema_name: Literal["chiasm.metrics"] = Field(alias="schema")
    version: Literal[1]
    image: ImageFigures
    pixel: PixelFigures
    object: ObjectFigures
    region: RegionFigures
    kinds: dict[str, KindFigures]
    trivial: TrivialFigures
    cost: dict[str, float | int | str | None]
    counts: Counts


def validated(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics unchanged.

    Raises:
        pydantic.ValidationError: they do not fit the schema.
    """
    Metrics.model_validate(metrics)
    return metrics
