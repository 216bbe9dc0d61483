"""Arrays that are written to a temporary file one by one and mapped together at the end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64  # bytes


class ArrayFile:
    """Arrays of any shapes and types in one temporary file, which has no name.

    The mapped arrays are read-only. Their pages are the operating system's to keep or to drop; the
    file goes when the last of them is gone.

    Args:
        folder: on the disk to write to; None takes the system's for temporary files.

    Example:
        >>> with ArrayFile() as file:
        ...     file.append(np.arange(3))
        ...     file.append(np.eye(2))
        ...     [array.shape for array in file.mapped()]
        [(3,), (2, 2)]
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._places: list[tuple[int, np.dtype[Any], tuple[int, ...]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()  # mappings stay valid

    def append(self, array: NDArray[Any]) -> None:
        """Write an array."""
        start = self._stream.tell()
        self._places.append((start, array.dtype, array.shape))
        self._stream.write(array.tobytes())
        self._stream.write(bytes(-self._stream.tell() % _ALIGNMENT))

    def mapped(self) -> list[NDArray[Any]]:
        """Return all arrays in the order in which they were written."""
        self._stream.flush()
        if not self._stream.tell():
            return [np.empty(shape, dtype) for _, dtype, shape in self._places]
        whole = np.asarray(np.memmap(self._stream, np.uint8, mode="r"))
        return [
            whole[start : start + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)
            for start, dtype, shape in self._places
        ]
