"""The entries of a store as lines of JSON: a journal during the conversion, an index after it.

There is one ``Entry`` a line. The index begins with a header line that holds the checksum of the
other lines.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from chiasm.diagnosis.readers.shards import Blob
from chiasm.diagnosis.readers.source import RecordingRef, problem_from_message
from chiasm.errors import DataError
from chiasm.samples import Problem

VERSION = 1
# Of a reference: what its reader was told of the recorder's files.
RECORDER = "recorder"
INDEX, JOURNAL = "index.jsonl", "journal.jsonl"
_NO_FILES: Mapping[str, Path] = {}
_NO_EXTRA: Mapping[str, str] = {}
_FACTS = ("source", "frequency", "samples_per_cycle", "label", "kind", "split")


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording in a store.

    Attributes:
        ref: the reference, without files.
        stamp: size and date of the files from which it was made.
        repairs: sentences about what was repaired in it.
        series: position of the series, or None.
        dtype, shape: of the series: ``"|u1"``, ``"<u2"`` or ``"<f4"``, and ``(C, T)``.
        image: position of the encoded image, or None.
    """

    ref: RecordingRef
    stamp: str
    repairs: tuple[str, ...]
    series: Blob | None
    dtype: str
    shape: tuple[int, int]
    image: Blob | None

    def blobs(self) -> Iterator[Blob]:
        """Yield the positions of its bytes."""
        yield from (blob for blob in (self.series, self.image) if blob is not None)


@dataclass(frozen=True, slots=True)
class Index:
    """The content of a finished store.

    Attributes:
        name: of the source that was converted.
        kinds: names of the classes, in the order of their labels.
        problems: of the source and of the conversion, without the repairs of the entries.
        entries: one for each recording.
    """

    name: str
    kinds: tuple[str, ...]
    problems: tuple[Problem, ...]
    entries: tuple[Entry, ...]


def stamp_of(ref: RecordingRef) -> str:
    """Return size and date of a recording's files, and what was declared of them."""
    stamps = []
    for role, path in sorted(ref.files.items()):
        try:
            stat = path.stat()
        except OSError:
            continue  # loading reports the fault of the file
        stamps.append(f"{role}:{stat.st_size}:{stat.st_mtime_ns}")
    return " ".join([*stamps, *([ref.extra[RECORDER]] if RECORDER in ref.extra else [])])


def without_files(ref: RecordingRef, number: int = -1) -> RecordingRef:
    """Return the reference without its files and without ``extra``."""
    return dataclasses.replace(ref, files={}, extra={}, group=dict(ref.group), number=number)


class Journal:
    """Entries that are on the disk before the index is written.

    An incomplete last line, left by a killed process, is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        content = self.path.read_bytes() if self.path.exists() else b""
        self.entries: list[Entry] = []
        complete = 0
        for line in content.splitlines(keepends=True):
            try:
                self.entries.append(_entry(line))
            except (ValueError, KeyError, TypeError):
                break
            complete += len(line)
        if complete < len(content):
            os.truncate(self.path, complete)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries and wait until they are on the disk."""
        with self.path.open("ab") as stream:
            stream.write(b"".join(_line(entry) for entry in entries))
            stream.flush()
            os.fsync(stream.fileno())


def write_index(folder: Path, index: Index) -> None:
    """Replace the index, and remove the journal."""
    body = b"".join(_line(entry) for entry in index.entries)
    header = {
        "version": VERSION,
        "name": index.name,
        "kinds": index.kinds,
        "problems": [dataclasses.asdict(problem) for problem in index.problems],
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
    """Read the index; raise ``DataError`` if it is missing, damaged or too new."""
    path = folder / INDEX
    if not path.is_file():
        if (folder / JOURNAL).is_file():
            raise DataError(
                f"{folder} is a store whose conversion has not finished; run it again: it "
                "continues where it stopped."
            )
        raise DataError(f"{folder} is no store of recordings: it has no {INDEX}.")
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.readline())
            body = stream.read()
        if header["version"] != VERSION:
            raise DataError(
                f"{path} has version {header['version']}; this chiasm reads version {VERSION}. "
                "Convert the recordings again."
            )
        if zlib.crc32(body) != header["crc"]:
            raise ValueError("its checksum differs")
        known: dict[Any, Any] = {}
        lines = enumerate(BytesIO(body))
        entries = tuple(_entry(line, number, known) for number, line in lines)
        problems = tuple(
            # Older stores hold messages instead of records.
            problem_from_message(record) if isinstance(record, str) else Problem(**record)
            for record in header["problems"]
        )
        return Index(header["name"], tuple(header["kinds"]), problems, entries)
    except (ValueError, KeyError, TypeError) as cause:
        raise DataError(
            f"{path} is damaged ({cause}); delete {folder} and convert again."
        ) from cause


def _line(entry: Entry) -> bytes:
    facts: dict[str, Any] = {fact: getattr(entry.ref, fact) for fact in _FACTS}
    facts |= {"group": dict(entry.ref.group), "stamp": entry.stamp, "repairs": entry.repairs}
    if entry.series is not None:
        facts |= {"series": dataclasses.astuple(entry.series)}
        facts |= {"dtype": entry.dtype, "shape": entry.shape}
    if entry.image is not None:
        facts |= {"image": dataclasses.astuple(entry.image)}
    # JSON escapes line ends inside a text.
    return json.dumps(facts).encode() + b"\n"


def _entry(line: bytes, number: int = -1, known: dict[Any, Any] | None = None) -> Entry:
    """Return the entry of a line; what many entries have in common is ``known``, and held once."""
    known = {} if known is None else known
    if not line.strip().endswith(b"}"):
        raise ValueError("a line is incomplete")
    facts: Mapping[str, Any] = json.loads(line)
    rows, columns = facts.get("shape", (0, 0))
    group = facts["group"]
    return Entry(
        ref=RecordingRef(
            **{fact: facts[fact] for fact in _FACTS} | _interned(facts),
            files=_NO_FILES,
            group=known.setdefault(tuple(group.items()), group),
            number=number,
            extra=_NO_EXTRA,
        ),
        stamp=facts["stamp"],
        repairs=tuple(facts["repairs"]),
        series=Blob(*facts["series"]) if "series" in facts else None,
        dtype=sys.intern(facts.get("dtype", "")),
        shape=known.setdefault((rows, columns), (rows, columns)),
        image=Blob(*facts["image"]) if "image" in facts else None,
    )


def _interned(facts: Mapping[str, Any]) -> dict[str, str]:
    return {fact: sys.intern(facts[fact]) for fact in ("kind", "split")}
