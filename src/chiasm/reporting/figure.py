"""All figures of an evaluation, in the one schema of ``metrics.json``."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Figure = dict[str, float | None]


def figure(value: float, interval: tuple[float, float] | None = None) -> Figure:
    """``{value, low, high}``; what is not known is None.

    A percentile interval that leaves out its own value, as can happen next to 0 and 1, is widened
    to hold it.
    """

    def known(x: float) -> float | None:
        return None if math.isnan(x) else round(float(x), 5)

    low, high = interval or (math.nan, math.nan)
    if not any(math.isnan(x) for x in (value, low, high)):
        low, high = min(low, value), max(high, value)
    return {"value": known(value), "low": known(low), "high": known(high)}


Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Part(BaseModel):
    """What all parts of the schema share: no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FigureValue(Part):
    """A figure and its 95 % interval; None where it is not known."""

    value: Share | None
    low: Share | None
    high: Share | None

    @model_validator(mode="after")
    def _ordered(self) -> FigureValue:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval from {self.low} to {self.high} is upside down")
        return self
