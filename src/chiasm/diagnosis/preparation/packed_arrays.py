"""Small arrays as text, so that a contract holds them in one line and needs no further file."""

from __future__ import annotations

import base64
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TYPE = np.dtype("<f4")


def packed(values: ArrayLike) -> str:
    """Return an array as Base64 of its float32 values, little-endian, row by row."""
    return base64.b64encode(np.asarray(values, _TYPE).tobytes()).decode("ascii")


@lru_cache(maxsize=256)
def unpacked(text: str, columns: int) -> NDArray[np.float64]:
    """Return what ``packed`` wrote as rows ``(N, columns)``, float64 and read-only.

    Raises:
        ValueError: the text is no Base64, or not of whole rows.
    """
    values = np.frombuffer(base64.b64decode(text, validate=True), _TYPE).astype(np.float64)
    rows = values.reshape(-1, columns)
    rows.setflags(write=False)
    return rows
