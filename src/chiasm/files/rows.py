"""Arrays of one shape per row in a file: appended batch by batch, read by rows.

What does not fit into memory is written once and mapped where it is read. A mapping lives as long
as one reading, because mapped pages count as the process's memory as long as they are mapped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError


class RowFile:
    """A file of rows, each with the same named arrays.

    Args:
        path: of the file; ``append`` makes it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = RowFile(Path(folder) / "rows.bin")
        ...     rows.append({"x": np.arange(6.0).reshape(3, 2)})
        ...     rows.read([2, 0])["x"].tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record: np.dtype[Any] | None = None
        self._axes: dict[str, tuple[int, ...]] = {}  # as they lie in the file
        self._count = 0

    @classmethod
    def described(cls, path: Path, description: Mapping[str, Any]) -> Self:
        """Open a file whose rows are those of ``describe``.

        Raises:
            DataError: the file is missing or has another length.
        """
        rows = cls(path)
        fields = description["fields"]
        rows._record = np.dtype([(name, kind, tuple(shape)) for name, kind, shape, _ in fields])
        rows._axes = {name: tuple(axes) for name, _, _, axes in fields}
        rows._count = int(description["count"])
        expected = rows._count * rows._record.itemsize
        size = path.stat().st_size if path.exists() else -1
        if size != expected:
            raise DataError(
                f"{path} has {max(size, 0)} bytes and should have {expected}; delete it, and it is "
                "made again."
            )
        return rows

    def describe(self) -> dict[str, Any]:
        """Return what is needed to open the file again, as JSON values."""
        fields: list[Any] = []
        if self._record is not None:
            for name in self.names:
                kind, shape = self._record[name].base, self._record[name].shape
                fields.append([name, kind.str, list(shape), list(self._axes[name])])
        return {"fields": fields, "count": self._count}

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays of a row; none before the first row."""
        return () if self._record is None else tuple(self._record.names or ())

    def append(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Append rows.

        Args:
            values: name to ``(N, ...)``, with the same names, shapes and types each time.

        Raises:
            DataError: they differ from those of the first rows.
        """
        if self._record is None:
            self._axes = {name: _axes_in_memory(value) for name, value in values.items()}
        block = self._block(values)
        with self.path.open("ab") as stream:
            stream.write(block.tobytes())
        self._count += len(block)

    def replace(self, positions: NDArray[np.int64], values: Mapping[str, NDArray[Any]]) -> None:
        """Put other rows at positions that exist; of two at one position the later one stays.

        Args:
            positions: ``(N,)``.
            values: as of ``append``.

        Raises:
            DataError: as ``append``.
        """
        if not len(positions):
            return
        block = self._block(values)
        mapped = np.memmap(self.path, dtype=block.dtype, mode="r+", shape=(self._count,))
        mapped[positions] = block

    def _block(self, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return rows as they lie in the file."""
        stored = {
            name: value.transpose(self._axes.get(name, tuple(range(value.ndim))))
            for name, value in values.items()
        }
        record = np.dtype([(n, v.dtype.str, v.shape[1:]) for n, v in stored.items()])
        if self._record is None:
            self._record = record
        if record != self._record:
            raise DataError(
                f"Rows of {self._record} are in {self.path}, and rows of {record} were appended; "
                "every part must have the same size and the same sensors."
            )
        block = np.empty(len(next(iter(values.values()))), record)
        for name, value in stored.items():
            block[name] = value
        return block

    def read(
        self, positions: Sequence[int] | slice, names: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read rows by their positions, in the given order.

        Args:
            positions: of the rows, or a slice of the file.
            names: of the arrays; None reads all.

        Returns:
            Name to ``(N, ...)``, copies whose axes lie in memory as those of the first rows did,
            because networks round differently with the channels first or last.
        """
        chosen = self.names if names is None else tuple(names)
        if self._record is None or not self._count:
            return {}
        mapped = np.memmap(self.path, dtype=self._record, mode="r", shape=(self._count,))
        index = (
            np.arange(*positions.indices(self._count))
            if isinstance(positions, slice)
            else np.asarray(positions, np.int64)
        )
        return {
            name: np.ascontiguousarray(mapped[name][index]).transpose(np.argsort(self._axes[name]))
            for name in chosen
        }

    def blocks(
        self, size: int, names: Collection[str] | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Read the whole file, ``size`` rows at a time."""
        for start in range(0, self._count, size):
            yield self.read(slice(start, start + size), names)


class SampledRows(RowFile):
    """A file that keeps all rows up to a number, and beyond it that number of them, at random.

    Each row that was ever appended is kept with the same probability, and the file grows no more.

    Args:
        path: of the file.
        most: rows that are kept.
        seed: of the choice; without effect while all rows are kept.

    References:
        Vitter, Random Sampling with a Reservoir, ACM TOMS 1985 (algorithm R).
    """

    def __init__(self, path: Path, *, most: int, seed: int) -> None:
        super().__init__(path)
        self.most = most
        self.seen = 0
        self._rng = np.random.default_rng(seed)

    def append(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Append rows while there is room; then each replaces a kept one, or is left out."""
        count = len(next(iter(values.values())))
        room = min(count, self.most - len(self))
        if room:
            super().append({name: value[:room] for name, value in values.items()})
        if room < count:
            # A row is kept with probability most / rows seen so far, this one included.
            places = self._rng.integers(0, np.arange(self.seen + room, self.seen + count) + 1)
            chosen = places < self.most
            self.replace(
                places[chosen], {name: value[room:][chosen] for name, value in values.items()}
            )
        self.seen += count


def _axes_in_memory(array: NDArray[Any]) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest, the first one first."""
    strides = array.strides
    return (0, *sorted(range(1, array.ndim), key=lambda axis: (-strides[axis], -axis)))
