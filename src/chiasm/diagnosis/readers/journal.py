"""What a store knows of each recording: lines of JSON, in a journal while it grows, then an index.

One ``Entry`` a line; the index has a header line before them with the checksum of all the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiasm.diagnosis.readers.shards import Blob
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.errors import DataError

VERSION = 1
INDEX, JOURNAL, LOCK = "index.jsonl", "journal.jsonl", "lock"
_POLL_S = 0.2
_FACTS = ("source", "frequency", "samples_per_cycle", "label", "kind", "split")


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording in a store.

    Attributes:
        ref: what is known of it; without files.
        stamp: size and date of the files that it was made from.
        repairs: sentences about what was repaired in it.
        series: where the series lies, or None.
        dtype, shape: of the series: ``"|u1"``, ``"<u2"`` or ``"<f4"``, and ``(C, T)``.
        image: where the encoded image lies, or None.
    """

    ref: RecordingRef
    stamp: str
    repairs: tuple[str, ...]
    series: Blob | None
    dtype: str
    shape: tuple[int, int]
    image: Blob | None

    def blobs(self) -> Iterator[Blob]:
        """Where its bytes lie."""
        yield from (blob for blob in (self.series, self.image) if blob is not None)


@dataclass(frozen=True, slots=True)
class Index:
    """A finished store: its name, its classes, what was left out in making it, its recordings."""

    name: str
    kinds: tuple[str, ...]
    problems: tuple[str, ...]
    entries: tuple[Entry, ...]


def stamp_of(ref: RecordingRef) -> str:
    """Size and date of a recording's files; ``""`` where it has none."""
    found = []
    for role, path in sorted(ref.files.items()):
        try:
            stat = path.stat()
        except OSError:
            continue  # loading will say what is wrong with the file
        found.append(f"{role}:{stat.st_size}:{stat.st_mtime_ns}")
    return " ".join(found)


def bare(ref: RecordingRef, number: int = -1) -> RecordingRef:
    """The reference without its files and without what only its own reader needs."""
    return dataclasses.replace(ref, files={}, extra={}, group=dict(ref.group), number=number)


class Journal:
    """Entries that are safe although the index is not written yet.

    A line that a killed process left unfinished is cut off.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        content = self.path.read_bytes() if self.path.exists() else b""
        self.entries: list[Entry] = []
        whole = 0
        for line in content.splitlines(keepends=True):
            try:
                self.entries.append(_entry(line))
            except (ValueError, KeyError, TypeError):
                break
            whole += len(line)
        if whole < len(content):
            os.truncate(self.path, whole)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries; they are on the disk when this returns."""
        with self.path.open("ab") as stream:
            stream.write(b"".join(_line(entry) for entry in entries))
            stream.flush()
            os.fsync(stream.fileno())


def write_index(folder: Path, index: Index) -> None:
    """Put a new index in place of the old one, and remove the journal."""
    body = b"".join(_line(entry) for entry in index.entries)
    header = {
        "version": VERSION,
        "name": index.name,
        "kinds": index.kinds,
        "problems": index.problems,
        "count": len(index.entries),
        "crc": zlib.crc32(body),
    }
    draft = folder / f"{INDEX}.draft"
    with draft.open("wb") as stream:
        stream.write(json.dumps(header, ensure_ascii=False).encode() + b"\n" + body)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(folder / INDEX)
    (folder / JOURNAL).unlink(missing_ok=True)


def read_index(folder: Path) -> Index:
    """Read the index; raises ``DataError`` where there is none, or it is damaged or too new."""
    path = folder / INDEX
    if not path.is_file():
        if (folder / JOURNAL).is_file():
            raise DataError(
                f"{folder} is a store whose conversion has not finished; run it again, it "
                "continues where it stopped."
            )
        raise DataError(f"{folder} is no store of recordings: it has no {INDEX}.")
    first, _, body = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(first)
        if header["version"] != VERSION:
            raise DataError(
                f"{path} has version {header['version']}; this chiasm reads version {VERSION}. "
                "Convert the recordings again."
            )
        if zlib.crc32(body) != header["crc"]:
            raise ValueError("its checksum differs")
        entries = tuple(_entry(line, number) for number, line in enumerate(body.splitlines()))
        return Index(header["name"], tuple(header["kinds"]), tuple(header["problems"]), entries)
    except (ValueError, KeyError, TypeError) as cause:
        raise DataError(
            f"{path} is damaged ({cause}); delete {folder} and convert again."
        ) from cause


@contextlib.contextmanager
def sole_writer(folder: Path, *, patience_s: float = 900.0) -> Iterator[None]:
    """Keep other processes from writing to the store; the system frees the lock of a killed one.

    Waits for another writer. Raises ``DataError`` where it still writes after ``patience_s``.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - no such lock on this system
        yield
        return
    with (folder / LOCK).open("w") as stream:
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as cause:
                if time.monotonic() >= until:
                    raise DataError(
                        f"{folder} is still being written by another process after "
                        f"{patience_s:.0f} s; wait until it has finished, or end it."
                    ) from cause
            time.sleep(_POLL_S)
        yield


def _line(entry: Entry) -> bytes:
    facts: dict[str, Any] = {fact: getattr(entry.ref, fact) for fact in _FACTS}
    facts |= {"group": dict(entry.ref.group), "stamp": entry.stamp, "repairs": entry.repairs}
    if entry.series is not None:
        facts |= {"series": dataclasses.astuple(entry.series)}
        facts |= {"dtype": entry.dtype, "shape": entry.shape}
    if entry.image is not None:
        facts |= {"image": dataclasses.astuple(entry.image)}
    # Escaped, so that no character inside a text can end the line.
    return json.dumps(facts).encode() + b"\n"


def _entry(line: bytes, number: int = -1) -> Entry:
    if not line.strip().endswith(b"}"):
        raise ValueError("a line is not complete")
    facts: Mapping[str, Any] = json.loads(line)
    rows, columns = facts.get("shape", (0, 0))
    return Entry(
        ref=RecordingRef(
            **{fact: facts[fact] for fact in _FACTS},
            files={},
            group=facts["group"],
            number=number,
        ),
        stamp=facts["stamp"],
        repairs=tuple(facts["repairs"]),
        series=Blob(*facts["series"]) if "series" in facts else None,
        dtype=facts.get("dtype", ""),
        shape=(rows, columns),
        image=Blob(*facts["image"]) if "image" in facts else None,
    )
