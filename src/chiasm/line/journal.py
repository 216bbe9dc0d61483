"""The table of all verdicts of a watch: a line each, on the disk before its part is moved.

The table is also the watch's memory: what it names is not judged again after a restart.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chiasm.errors import ArtifactError
from chiasm.line.record import Payload

COLUMNS = (
    *("time", "source", "decision", "alarm", "score", "p_value", "threshold", "station"),
    *("model", "model_hash", "wing", "latency_ms", "probabilities", "notes", "error"),
    *("id", "stamp"),
    # A table of an earlier version has the columns before, and keeps them.
    *("product", "confidence", "unknown", "severity", "charge", "charge_unit", "pulse_rate"),
)
_EARLIER = COLUMNS[: COLUMNS.index("stamp") + 1]


class Judged(NamedTuple):
    """What the table says of a part.

    Attributes:
        stamp: of its files, see ``Arrival``.
        id: of the verdict.
        decision: the word.
        whole: stamp of the files that were last judged without an error, or "".
    """

    stamp: str
    id: str
    decision: str
    whole: str = ""


class Journal:
    """A CSV file that is appended to.

    Args:
        path: of the file, which is created with the first line.

    A last line that a kill cut off is removed. A table of an earlier version is continued with its
    own columns.

    Raises:
        ArtifactError: the file is no such table.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: tuple[str, ...] = COLUMNS
        self._mend()

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the lines, oldest first."""
        if self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as stream:
                yield from csv.DictReader(stream)

    def known(self, names: Iterable[str]) -> dict[str, Judged]:
        """Return what was last said of these parts, by name."""
        wanted = {cell(name): name for name in names}
        judged: dict[str, Judged] = {}
        if not wanted:
            return judged
        for row in self.rows():
            if row["source"] in wanted:
                name = wanted[row["source"]]
                whole = judged[name].whole if name in judged else ""
                whole = whole if row["error"] else row["stamp"]
                judged[name] = Judged(row["stamp"], row["id"], row["decision"], whole)
        return judged

    def append(self, payload: Payload, stamp: str) -> None:
        """Write a line; it is on the disk when this returns.

        Raises ``OSError``, and then nothing of it is kept.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(file).st_size
            if size == 0:  # a new file, or one that was rotated away
                self._columns = COLUMNS
                writer.writerow(self._columns)
            values = {**payload, "stamp": stamp}
            writer.writerow([cell(values.get(name)) for name in self._columns])
            data = text.getvalue().encode()
            try:
                while data:
                    data = data[os.write(file, data) :]
                os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise
        finally:
            os.close(file)

    def _mend(self) -> None:
        if not self.path.is_file():
            return
        with self.path.open("r+b") as stream:
            header = stream.readline().decode("utf-8", "replace").rstrip("\r\n")
            if not header.strip():
                return
            if header == ",".join(_EARLIER):
                self._columns = _EARLIER
            # A kill may have cut off the header itself.
            if not any(",".join(known).startswith(header) for known in (COLUMNS, _EARLIER)):
                raise ArtifactError(
                    f"{self.path} is no table of a watch of this version: its first line is "
                    f"{header[:80]!r}. Move it away, or name another folder with --out."
                )
            end = stream.seek(0, os.SEEK_END)
            whole = end
            while whole:  # back to the end of the last whole line
                start = max(0, whole - 4096)
                stream.seek(start)
                found = stream.read(whole - start).rfind(b"\n")
                if found >= 0:
                    whole = start + found + 1
                    break
                whole = start
            if whole < end:
                stream.truncate(whole)
                os.fsync(stream.fileno())


def cell(value: Any) -> str:
    """Return a value as one line of text, which no sheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "; ".join(f"{name}={share:.6g}" for name, share in value.items())
    if isinstance(value, list):
        value = " ".join(map(str, value))
    # One row is one line, so that a cut-off row can be told.
    if not isinstance(value, str):
        return str(value)
    text = " ".join(value.split()).encode("utf-8", "replace").decode()
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
