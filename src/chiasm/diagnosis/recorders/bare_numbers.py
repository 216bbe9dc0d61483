"""Files of bare numbers: a wrong type is refused where another makes a signal of the bytes.

A converter's numbers lie close together beside what their type can hold. Read as another type they
are spread, or every second one is of another kind than those between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.recorders.recorded import RAW_TYPES, RecorderSettings
from chiasm.errors import DataError

_LEAST = 64  # bytes of which anything is told
_LOOKED_AT = 262_144  # bytes, of which types are judged
_TEXT_HEAD = 32  # bytes that are no numbers if all are letters
# Bits a byte: another type must save so many, and so large a share of them.
_SAVED, _SHARE = 1.0, 0.25
_LANES = 2.5  # bits a value by which every second one differs from those between
_NOISE = 4.0  # bits a byte from which whole numbers may be the bytes of fractions
_DECADES, _SIGNAL_DECADES = 25.0, 12.0  # that values of a signal hardly span, and mostly span
_SIZES = (1e-15, 1e15)  # of a signal in any unit
_MOSTLY, _HARDLY = 0.5, 0.01


def raw_numbers(content: bytes, settings: RecorderSettings, where: str) -> NDArray[np.float64]:
    """Return bare numbers ``(C, T)``; ``raw_channels`` of the settings follow each other by turns.

    Raises:
        DataError: no type is given, it does not fit, or the bytes make sense as another one.
    """
    if not settings.raw_type:
        raise DataError(
            f"{where} holds bare numbers; say of which type, e.g. raw_type=int16 "
            f"({', '.join(RAW_TYPES)}), and header_bytes=... if something stands before them.",
            see="columns",
        )
    dtype = np.dtype(RAW_TYPES[settings.raw_type])
    channels = settings.raw_channels
    body = content[settings.header_bytes :]
    if not body or len(body) % (dtype.itemsize * channels):
        raise DataError(
            f"{where} has {len(body)} bytes of numbers, which is no multiple of "
            f"{dtype.itemsize * channels} ({settings.raw_type}, channels: {channels}); check "
            "raw_type, raw_channels and header_bytes."
        )
    head = body[:_TEXT_HEAD]
    if len(head) == _TEXT_HEAD and dtype.itemsize > 1 and all(32 <= b < 127 for b in head):
        raise DataError(
            f"{where} begins with the text '{head[:16].decode()}...', which is no number: say how "
            "many bytes stand before the numbers, header_bytes=..."
        )
    values = np.frombuffer(body, dtype).reshape(-1, channels).T
    other = _likelier_type(body[:_LOOKED_AT], settings.raw_type) if channels == 1 else ""
    if other:
        raise DataError(
            f"{where} makes no signal of {settings.raw_type}, and one of {other}: give "
            f"raw_type={other}. If it is {settings.raw_type}, save it as .npy."
        )
    if not np.isfinite(values).all() or (values.dtype.kind == "f" and _decades(values) > _DECADES):
        raise DataError(
            f"{where} makes no signal of {settings.raw_type}: its values are not finite or span "
            f"more than {_DECADES:g} decades; check raw_type ({', '.join(RAW_TYPES)}), "
            "raw_channels and header_bytes.",
            see="columns",
        )
    if channels == 1 and (lanes := _differing_lanes(values[0])):
        raise DataError(
            f"{where}: as {settings.raw_type} every {_ORDINALS[lanes]} number is of another kind "
            f"than those between: numbers of more bytes, or channels by turns. Give raw_channels="
            f"{lanes} or another raw_type; if it is one channel of {settings.raw_type}, save it as "
            ".npy.",
            see="columns",
        )
    return values.astype(np.float64)


_ORDINALS = {2: "second", 4: "fourth"}


def _likelier_type(body: bytes, given: str) -> str:
    """Return the type of which the bytes make a signal, where they plainly make none of a given."""
    size = np.dtype(RAW_TYPES[given]).itemsize
    if len(body) < _LEAST:
        return ""
    if RAW_TYPES[given].strip("<>")[0] == "f":
        if _plausible(body, given) and not (size == 8 and _two_floats(body)):
            return ""
        # Sparse whole numbers read as fractions lie next to 0.
        names = [n for n in RAW_TYPES if n != given and _plausible(body, n)]
        names += _whole_types(body, size) if not names else []
        return names[0] if names else ""
    bits = _bits_a_byte(body, given)
    others = {n: _bits_a_byte(body, n) for n in RAW_TYPES if "int" in n and n != given}
    best = min(others, key=lambda name: others[name])
    if bits - others[best] > _SAVED and others[best] < (1 - _SHARE) * bits:
        return best
    if bits > _NOISE:
        return next((n for n in RAW_TYPES if "float" in n and _plausible(body, n)), "")
    return ""


def _whole_types(body: bytes, size: int) -> list[str]:
    """Return the type of whole numbers of a size that need the fewest bits, if they are few."""
    bits = {
        n: _bits_a_byte(body, n)
        for n, code in RAW_TYPES.items()
        if "int" in n and np.dtype(code).itemsize <= size
    }
    best = min(bits, key=lambda name: bits[name])
    return [best] if 0 < bits[best] < _NOISE else []


def _as(body: bytes, name: str) -> NDArray[np.generic]:
    dtype = np.dtype(RAW_TYPES[name])
    return np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype)


def _bits_a_byte(body: bytes, name: str) -> float:
    """Return the bits that the distance of whole numbers from their median needs, a byte of it."""
    values = _as(body, name)
    numbers = values.astype(np.float64)
    # Converters of 8 or 24 bits may write theirs into the upper bytes.
    step = int(np.gcd.reduce(values.astype(np.int64))) or 1
    away = np.abs(numbers - np.median(numbers)) / abs(step)
    return float(np.log2(1 + away).mean()) / values.dtype.itemsize


def _plausible(body: bytes, name: str) -> bool:
    """Return whether fractions are finite, of usual sizes and span few decades."""
    values = _as(body, name)
    if values.dtype.kind != "f" or _decades(values) > _SIGNAL_DECADES:
        return False
    size = np.abs(values.astype(np.float64))
    some = size[size > 0]
    # Where every second is 0, two of them are one number of twice the bytes.
    lanes = [float((size[k::2] > 0).mean()) for k in range(2)]
    if max(lanes) > _MOSTLY and min(lanes) < _HARDLY:
        return False
    return bool(some.size) and _SIZES[0] < float(np.median(some)) < _SIZES[1]


def _two_floats(body: bytes) -> bool:
    """Return whether the halves of fractions of 8 bytes are themselves signals."""
    return any(
        all(_plausible(_as(body, name)[k::2].tobytes(), name) for k in range(2))
        for name in ("float32", "float32be")
    )


def _decades(values: NDArray[np.generic]) -> float:
    """Return the decades between the largest value and the smallest of most; infinity of NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(values.astype(np.float64))
    if not np.isfinite(size).all():
        return float("inf")
    some = size[size > 0]
    if not some.size:
        return 0.0
    return float(np.log10(some.max()) - np.log10(np.quantile(some, 0.05)))


def _differing_lanes(values: NDArray[np.generic]) -> int:
    """Return 2 or 4 where every second or fourth number is of another kind than others; else 0."""
    numbers = values[: _LOOKED_AT // values.dtype.itemsize].astype(np.float64)
    if len(numbers) < _LEAST or values.dtype.kind == "f":
        return 0
    for period in (2, 4):
        lanes = [numbers[k::period] for k in range(period)]
        bits = [float(np.log2(1 + np.abs(lane - np.median(lane))).mean()) for lane in lanes]
        # The upper byte of small numbers is the sign of the lower one.
        signs = [bool(np.isin(lane, (0, -1, 255, 65535)).all()) for lane in lanes]
        if max(bits) - min(bits) > _LANES or (any(signs) and not all(signs)):
            return period
    return 0
