"""A row of the log, and its values as every database takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class LoggedVerdict:
    """A row of the log; without a decision, that of an error.

    Attributes:
        id: 32 hexadecimal digits.
        time: seconds since 1970, UTC.
        model: name in the address.
        model_hash: of the version that was used.
        wing: ``"detector"`` or ``"classifier"``.
        source: the client's name for the part, cleaned.
        input_sha256: over the files' bytes.
        score: raw score of a part, or largest probability of a recording; None on error.
        p_value: of a part with calibration scores; else None.
        threshold: above which a score is an alarm, or None.
        decision: ``"defective"``, ``"good"``, ``"undecided"``, a kind, or ``"error"``.
        latency_ms: from the whole request to the verdict.
        error: a sentence, or "".
        station: name of the service that gave it, or "".
        asset: of a recording: name of the apparatus, or "".
        facts: of a recording of an asset: what takes part in its trend, as JSON, or "".
    """

    id: str
    time: float
    model: str
    model_hash: str
    wing: str
    source: str
    input_sha256: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    decision: str = "error"
    latency_ms: float = 0.0
    error: str = ""
    station: str = ""
    asset: str = ""
    facts: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LoggedVerdict:
        """Return a row of values that another version of chiasm may have written.

        Raises ``TypeError`` if a column without a default is missing.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    @property
    def values(self) -> dict[str, Any]:
        """The columns as every database stores them: storable text, and None for NaN."""
        return {name: _stored(value) for name, value in asdict(self).items()}


def storable(text: str) -> str:
    """Return text as every database takes it.

    Lone surrogates, which UTF-8 cannot hold, and NUL, which PostgreSQL refuses, become ``?``.
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _stored(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    # SQLite stores NaN as NULL and PostgreSQL as NaN, which sorts above all numbers.
    return None if isinstance(value, float) and not math.isfinite(value) else value
