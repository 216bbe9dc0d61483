"""Tables in Parquet files that appear whole, and never cut short."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetFile:
    """A table that is written row by row beside its place, and put there when it is complete.

    Args:
        path: of the table. Until it is complete, a hidden file beside it holds the rows.
        columns: name to type, a name of Arrow such as ``"string"``, ``"double"`` or ``"bool"``; a
            list of one type for lists of it, a mapping of names to types for structures.
        metadata: of the file, by name; may be changed until the first rows are written.
        group: rows that are written at a time, and held in memory until then; None writes all
            rows in the end.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "part.parquet"
        ...     with ParquetFile(path, {"score": "double"}, {"model": "a"}) as table:
        ...         table.append({"score": 0.5})
        ...     read_metadata(path)["model"]
        'a'
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, Any],
        metadata: Mapping[str, str],
        *,
        group: int | None = None,
    ) -> None:
        self.path = path
        self.metadata = dict(metadata)
        self._fields = [pa.field(name, _type(kind)) for name, kind in columns.items()]
        self._group = group
        self._rows: list[Mapping[str, Any]] = []
        self._part = path.with_name(f".{path.name}.{os.getpid()}")
        self._stream = self._part.open("wb")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._complete()
        finally:
            self._stream.close()
            self._part.unlink(missing_ok=True)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; a column that it lacks is null."""
        self._rows.append(row)
        if len(self._rows) == self._group:
            self._write()

    def _complete(self) -> None:
        if self._rows or self._writer is None:
            self._write()
        assert self._writer is not None
        self._writer.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())  # a name must not survive a power cut without its content
        self._part.replace(self.path)

    def _write(self) -> None:
        schema = pa.schema(self._fields, metadata=self.metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._stream, schema)
        rows, self._rows = self._rows, []
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._writer.schema))


def read_rows(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the rows of tables, one table after the other in groups of rows."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()


def _type(kind: Any) -> pa.DataType:
    if isinstance(kind, str):
        return pa.type_for_alias(kind)
    if isinstance(kind, list):
        return pa.list_(_type(kind[0]))
    return pa.struct([pa.field(name, _type(inner)) for name, inner in kind.items()])


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a complete file, and ``rows``: their number. Reads its end alone.

    Raises ``OSError`` or ``ValueError`` for a file that is missing or damaged.
    """
    with pq.ParquetFile(path) as file:
        metadata = file.schema_arrow.metadata or {}
        named = {key.decode(): value.decode() for key, value in metadata.items()}
        return named | {"rows": str(file.metadata.num_rows)}


def remove_incomplete(path: Path) -> None:
    """Remove what writers that were ended left beside the place of a table."""
    for part in path.parent.glob(f".{path.name}.*"):
        part.unlink(missing_ok=True)
