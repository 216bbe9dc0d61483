"""Small arrays as text, so that a contract holds them in one line and needs no further file."""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache
from typing import Any

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


def compressed(values: NDArray[Any]) -> str:
    """Return an array as Base64 of its compressed bytes, little-endian, row by row."""
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


@lru_cache(maxsize=64)
def decompressed(text: str, kind: str) -> NDArray[Any]:
    """Return what ``compressed`` wrote as a read-only row of the type ``kind``, such as ``"u2"``.

    Raises:
        ValueError: the text is nothing of the kind.
    """
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return np.frombuffer(raw, np.dtype(f"<{kind}"))
