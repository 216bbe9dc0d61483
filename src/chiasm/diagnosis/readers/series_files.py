"""Reader of tables of whole numbers of a known shape, fast; every error names file and row."""

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
_WHOLE = re.compile(r"[+-]?[0-9]+")


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
        values = _numbers(content)
    if values is None:
        values = _cell_by_cell(where, content)
    return values.reshape(1, -1)


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


def _check_shape(where: str, content: bytes, shape: tuple[int, int]) -> None:
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        cells = line.count(b",") + 1 if line.strip() else 0
        if cells != shape[1]:
            raise DataError(
                f"{where}, row {number} has {cells} cells; {shape[1]} were expected, separated by "
                "commas."
            )
    if len(lines) != shape[0]:
        raise DataError(f"{where} has {len(lines)} rows; {shape[0]} were expected.")


def _plain_counts(content: bytes) -> FloatArray | None:
    """Return the values ``(n,)`` of a table that holds digits only; None for any other."""
    flat = b",%b," % content.replace(b"\n", b",")
    if content.translate(None, _PLAIN) or b",," in flat:
        return None
    values = np.fromstring(flat[1:-1], dtype=np.int64, sep=",")
    return values.astype(np.float32) if values.max() <= LARGEST_COUNT else None


def _numbers(content: bytes) -> FloatArray | None:
    """Return the values ``(n,)`` of a table of ASCII numbers; None if a cell may be invalid."""
    if content.translate(None, _SIGNED):
        return None
    try:
        values = np.loadtxt(
            BytesIO(content), np.float64, comments=None, delimiter=",", ndmin=1, encoding="ascii"
        )
    except ValueError:
        return None
    within = np.abs(values).max(initial=0) <= LARGEST_COUNT
    return values.reshape(-1).astype(np.float32) if within else None


def _cell_by_cell(where: str, content: bytes) -> FloatArray:
    """Parse each cell: slow, but accepts non-ASCII blanks and names the cell that is wrong."""
    values: list[float] = []
    for number, line in enumerate(content.decode("utf-8", errors="replace").split("\n"), start=1):
        for column, text in enumerate(line.split(","), start=1):
            cell = text.strip()
            position = f"{where}, row {number}, column {column}"
            if not _WHOLE.fullmatch(cell):
                fault = f"holds '{cell[:20]}'" if cell else "is empty"
                raise DataError(f"{position} {fault}; a whole number was expected.")
            value = float(cell)
            if abs(value) > LARGEST_COUNT:
                raise DataError(
                    f"{position} holds {cell[:20]}; amplitudes lie within {LARGEST_COUNT:g}."
                )
            values.append(value)
    return np.array(values, dtype=np.float32)
