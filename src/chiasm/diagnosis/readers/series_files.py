"""Readers of number tables that hold series; every error names file and row."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np

from chiasm.errors import DataError
from chiasm.samples import FloatArray

# Beyond it, float32 cannot represent every whole number.
LARGEST_COUNT = 2**24
_PLAIN = b"0123456789,\n"
_SIGNED = _PLAIN + b"+- \t"
_FRACTIONAL = _SIGNED + b".eE"
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_counts_csv(path: Path | str, shape: tuple[int, int]) -> FloatArray:
    """Read a header-less table of whole numbers whose rows follow each other in time.

    ``shape`` is the expected ``(rows, columns)``. Returns ``(1, rows * columns)`` float32. Raises
    ``DataError``, naming file and row (1 is the first), for another number of rows or cells, and
    for cells that are empty, not whole numbers or beyond 2**24.
    """
    where = str(path)
    content = _normalised(_read_bytes(Path(path)), where)
    _check_shape(where, content, shape)
    values = _plain_counts(content)
    if values is None:
        values = _numbers(content, whole=True)
    if values is None:
        values = _cell_by_cell(where, content, whole=True)
    return values.reshape(1, -1)


def read_numbers_csv(path: Path | str, *, rows_in_time: bool = True) -> FloatArray:
    """Read a header-less table of numbers, whole or not.

    Returns ``(1, rows * columns)`` float32 if the rows follow each other in time, else ``(rows,
    columns)``, each row a channel. Raises ``DataError``, naming file and row, for rows of
    unequal length and for cells that are empty or not finite numbers.
    """
    return numbers_from_bytes(_read_bytes(Path(path)), str(path), rows_in_time=rows_in_time)


def numbers_from_bytes(content: bytes, where: str, *, rows_in_time: bool = True) -> FloatArray:
    """Decode a table as ``read_numbers_csv`` does; ``where`` names it in errors."""
    content = _normalised(content, where)
    rows = _check_shape(where, content, None)
    values = _plain_counts(content)
    if values is None:
        values = _numbers(content, whole=False)
    if values is None:
        values = _cell_by_cell(where, content, whole=False)
    return values.reshape(1 if rows_in_time else rows, -1)


def read_series_npy(path: Path | str, *, rows_in_time: bool = False) -> FloatArray:
    """Read a numpy array of real numbers.

    ``(T,)`` is one channel and ``(C, T)`` is C channels. With ``rows_in_time``, the rows of a
    two-dimensional array follow each other in one channel. Returns ``(C, T)`` float32.
    Raises ``DataError`` for a damaged file, another shape, more channels than values, NaN and
    infinite values.
    """
    path = Path(path)
    try:
        values = np.load(path, allow_pickle=False)
    except OSError as cause:
        raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
    except (ValueError, EOFError) as cause:
        raise DataError(f"{path} cannot be read as a numpy array ({cause}).") from cause
    return checked_series(values, str(path), rows_in_time=rows_in_time)


def checked_series(values: object, where: str, *, rows_in_time: bool = False) -> FloatArray:
    """Check an array as ``read_series_npy`` does, and return it as ``(C, T)`` float32."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise DataError(
            f"{where} does not hold one array of real numbers; save it with numpy.save."
        )
    if values.ndim not in (1, 2) or values.size == 0:
        raise DataError(
            f"{where} has shape {values.shape}; a series is (values,) or (channels, values)."
        )
    series = values.reshape(1, -1) if values.ndim == 1 or rows_in_time else values
    if series.shape[0] > series.shape[1]:
        raise DataError(
            f"{where} has shape {values.shape}, more channels than values; a series is "
            "(channels, values): transpose it."
        )
    finite = np.isfinite(values.reshape(-1, values.shape[-1])).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{where}, row {int(np.argmin(finite)) + 1} holds NaN or infinite values; finite ones "
            "were expected."
        )
    return np.ascontiguousarray(series, dtype=np.float32)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause


def _normalised(content: bytes, where: str) -> bytes:
    """Return content with LF line ends, without byte order mark and trailing line ends."""
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip(b"\r\n")
    if not content:
        raise DataError(f"{where} is empty; copy the file again from its origin.")
    return content


def _check_shape(where: str, content: bytes, shape: tuple[int, int] | None) -> int:
    """Return the number of rows."""
    lines = content.split(b"\n")
    columns = shape[1] if shape else lines[0].count(b",") + 1
    for number, line in enumerate(lines, start=1):
        cells = line.count(b",") + 1 if line.strip() else 0
        if cells != columns:
            reason = "" if shape else " as in its first row"
            raise DataError(
                f"{where}, row {number} has {cells} cells; {columns} were expected{reason}, "
                "separated by commas."
            )
    if shape and len(lines) != shape[0]:
        raise DataError(f"{where} has {len(lines)} rows; {shape[0]} were expected.")
    return len(lines)


def _plain_counts(content: bytes) -> FloatArray | None:
    """Return the values ``(n,)`` of a table that holds digits only; None for any other."""
    flat = b",%b," % content.replace(b"\n", b",")
    if content.translate(None, _PLAIN) or b",," in flat:
        return None
    values = np.fromstring(flat[1:-1], dtype=np.int64, sep=",")
    return values.astype(np.float32) if values.max() <= LARGEST_COUNT else None


def _numbers(content: bytes, *, whole: bool) -> FloatArray | None:
    """Return the values ``(n,)`` of a table of ASCII numbers; None if a cell may be invalid."""
    # Of the letters only the exponent's is allowed: numpy would also read nan and inf.
    if content.translate(None, _SIGNED if whole else _FRACTIONAL):
        return None
    try:
        values = np.loadtxt(
            BytesIO(content), np.float64, comments=None, delimiter=",", ndmin=1, encoding="ascii"
        )
    except ValueError:
        return None
    within = np.abs(values).max(initial=0) <= _limit(whole=whole)
    return values.reshape(-1).astype(np.float32) if within else None


def _limit(*, whole: bool) -> float:
    return LARGEST_COUNT if whole else float(np.finfo(np.float32).max)


def _cell_by_cell(where: str, content: bytes, *, whole: bool) -> FloatArray:
    """Parse each cell: slow, but accepts non-ASCII blanks and names the cell that is wrong."""
    pattern, expected = (_WHOLE, "a whole number") if whole else (_NUMBER, "a number")
    limit = _limit(whole=whole)
    values: list[float] = []
    for number, line in enumerate(content.decode("utf-8", errors="replace").split("\n"), start=1):
        for column, text in enumerate(line.split(","), start=1):
            cell = text.strip()
            position = f"{where}, row {number}, column {column}"
            if not pattern.fullmatch(cell):
                fault = f"holds '{cell[:20]}'" if cell else "is empty"
                raise DataError(f"{position} {fault}; {expected} was expected.")
            value = float(cell)
            if abs(value) > limit:
                raise DataError(f"{position} holds {cell[:20]}; amplitudes lie within {limit:g}.")
            values.append(value)
    return np.array(values, dtype=np.float32)
