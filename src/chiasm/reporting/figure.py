"""A figure with its 95 % interval, as a record of ``metrics.json``."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Figure = dict[str, float | None]


def figure(value: float, interval: tuple[float, float] | None = None) -> Figure:
    """Return ``{value, low, high}``, rounded to five decimals; NaN becomes None.

    A percentile interval that excludes the value, as can happen near 0 and 1, is widened.
    """

    def rounded(x: float) -> float | None:
        return None if math.isnan(x) else round(float(x), 5)

    low, high = interval or (math.nan, math.nan)
    if not any(math.isnan(x) for x in (value, low, high)):
        low, high = min(low, value), max(high, value)
    return {"value": rounded(value), "low": rounded(low), "high": rounded(high)}


Share = Annotated[float, Field(ge=0.0, le=1.0)]


class SchemaModel(BaseModel):
    """Base of all records of the schema: no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def rows(cls) -> dict[str, tuple[str, str]]:
        """Return the title and the meaning of each figure, as reports show them."""
        fields = cls.model_fields.items()
        return {name: (field.title or name, field.description or "") for name, field in fields}


class FigureValue(SchemaModel):
    """A figure and its 95 % interval; None if unknown."""

    value: Share | None
    low: Share | None
    high: Share | None

    @model_validator(mode="after")
    def _ordered(self) -> FigureValue:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval from {self.low} to {self.high} is upside down")
        return self
