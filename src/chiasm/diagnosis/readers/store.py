"""A store: a compact copy of recordings, converted once from any source, read by memory maps.

It is a folder of few files. ``recordings-00000.bin`` ..., about 1 GiB each, hold the bytes of
series (uint8 or uint16 if that is exact, else float32) and images (PNG, 8 bits a channel if that
is exact, else 16). ``index.jsonl`` holds their positions. A recording is always read whole, so the
chunks and codecs of Zarr or Parquet would add a dependency and a slower read. Files are only
appended to, so that a conversion can continue after a kill: first the bytes are written, then,
when they are on the disk, a line of ``journal.jsonl``; at the end the index replaces the journal
in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.readers.journal import (
    INDEX,
    RECORDER,
    Entry,
    Index,
    Journal,
    read_index,
    stamp_of,
    without_files,
    write_index,
)
from chiasm.diagnosis.readers.shards import ByteArray, ShardReader, ShardWriter
from chiasm.diagnosis.readers.source import RecordingRef, RecordingSource, sample_from_ref
from chiasm.errors import DataError
from chiasm.files.audit_text import read
from chiasm.files.locks import write_lock
from chiasm.files.readers import reader, without_listing
from chiasm.runs.ordered_map import Failure, map_in_order
from chiasm.samples import FloatArray, Problem, RecordingSample

# Recordings between two writes to the journal; a kill loses at most these.
BATCH = 64
_DTYPES = ("|u1", "<u2")


@reader("diagnosis", order=-1)
class RecordingStore:
    """The recordings of a finished store; a ``RecordingSource``.

    Several processes can use it at once: it writes nothing, each process opens its own maps, and
    it can be pickled. The first read of a recording in a process verifies the checksum.
    """

    layout = "a converted store"
    loads_by_listing = True  # where a recording's values lie stands in the index

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._index = read_index(self.path)
        self._refs = tuple(entry.ref for entry in self._index.entries)
        self._shards = ShardReader(self.path)
        self._series_checked = bytearray(len(self._refs))
        self._image_checked = bytearray(len(self._refs))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder holds the index of a store."""
        return (path / INDEX).exists()

    @classmethod
    def open(cls, path: Path | str) -> RecordingStore:
        """Open a store; raise ``DataError`` if the folder is no store, unfinished or damaged."""
        return cls(path)

    @property
    def name(self) -> str:
        """Name of the source that was converted."""
        return self._index.name

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return self._index.kinds

    def with_kinds(self, kinds: Sequence[str]) -> RecordingStore:
        """Return the store with its recordings numbered as these classes, which have its own."""
        other = copy(self)
        other._index = replace(self._index, kinds=tuple(kinds))
        other._refs = tuple(
            replace(ref, label=None if ref.label is None else kinds.index(self.kinds[ref.label]))
            for ref in self._refs
        )
        return other

    @property
    def refs(self) -> tuple[RecordingRef, ...]:
        """All recordings, in the order of the source that was converted."""
        return self._refs

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What the conversion left out or repaired."""
        repairs = (problem for ref in self._refs for problem in self.repairs(ref))
        return (*self._index.problems, *repairs)

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return what the conversion repaired in the recording."""
        sentences = self._entry(ref).repairs
        return tuple(Problem(ref.source, sentence, left_out=False) for sentence in sentences)

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording, equal to that of its source; raise ``DataError`` for damage."""
        series = self.counts(ref)
        return sample_from_ref(
            ref,
            image=self.image(ref),
            series=None if series is None else series.astype(np.float32),
            segment=1,
        )

    def counts(self, ref: RecordingRef) -> NDArray[np.uint8 | np.uint16 | np.float32] | None:
        """Return the series as stored, without a copy: ``(C, T)``, read-only.

        None if the recording has no series. Raises ``DataError`` for damage.
        """
        entry = self._entry(ref)
        if entry.series is None:
            return None
        if not self._series_checked[ref.number]:
            self._shards.check(entry.series, f"in the series of {ref.source}")
            self._series_checked[ref.number] = 1
        return self._shards.read(entry.series).view(entry.dtype).reshape(entry.shape)

    def has_image(self, ref: RecordingRef) -> bool:
        """Whether the recording has an image; the image is not decoded."""
        return self._entry(ref).image is not None

    def image(self, ref: RecordingRef) -> FloatArray | None:
        """Return the image, ``(H, W, 3)`` float32 in [0, 1], or None."""
        entry = self._entry(ref)
        if entry.image is None:
            return None
        if not self._image_checked[ref.number]:
            self._shards.check(entry.image, f"in the image of {ref.source}")
            self._image_checked[ref.number] = 1
        return _decode(self._shards.read(entry.image))

    def _entry(self, ref: RecordingRef) -> Entry:
        if not 0 <= ref.number < len(self._refs) or self._refs[ref.number].source != ref.source:
            raise DataError(f"{ref.source} is no recording of the store {self.path}.")
        return self._index.entries[ref.number]


def convert(
    source: RecordingSource,
    path: Path | str,
    *,
    progress: Callable[[int, int], None] | None = None,
    patience_s: float = 900.0,
    workers: int = 1,
    strict: bool = False,
) -> RecordingStore:
    """Copy a source into a store, continue an interrupted copy, or update a store.

    Recordings whose files have the same size and date as before are not read again. Recordings
    that cannot be read are left out and listed in the store's ``problems``; the next conversion
    tries them again.

    Args:
        source: of the recordings.
        path: folder of the store.
        progress: called with the number done and the total.
        patience_s: longest wait for another process that writes to the store.
        workers: processes that read recordings; this one writes.
        strict: stop at the first recording that cannot be read.

    Raises:
        DataError: no recording can be read, the other process does not end, the folder cannot be
            written, or ``strict`` found something. What is complete is kept.
    """
    path = Path(path)
    opening = source.problems
    try:
        path.mkdir(parents=True, exist_ok=True)
        with write_lock(path, patience_s=patience_s):
            entries, failures = _copy(source, path, progress, workers=workers, strict=strict)
            if not entries:
                causes = " ".join(str(failure) for failure in failures[:3])
                raise DataError(f"Not one recording of {source.name} can be read. {causes}")
            # The entries hold the repairs of recordings.
            repairs = {sentence for entry in entries for sentence in entry.repairs}
            problems = tuple(
                problem
                for problem in dict.fromkeys((*opening, *failures))
                if problem.sentence not in repairs
            )
            write_index(path, Index(source.name, source.kinds, problems, tuple(entries)))
    except OSError as cause:
        raise DataError(
            f"{path} cannot be written: {cause.strerror or cause}. What is complete is kept: mend "
            "this and do the same again."
        ) from cause
    return RecordingStore(path)


def _copy(
    source: RecordingSource,
    path: Path,
    progress: Callable[[int, int], None] | None,
    *,
    workers: int,
    strict: bool,
) -> tuple[list[Entry], list[Problem]]:
    """Return an entry for each recording that can be read, a problem for each that cannot."""
    journal = Journal(path)
    stored = [*(read_index(path).entries if (path / INDEX).exists() else ()), *journal.entries]
    entry_of = {entry.ref.source: entry for entry in stored}
    shards = ShardWriter(path, [blob for entry in stored for blob in entry.blobs()])
    del stored
    # Taken before reading, so that a file that changes during it is read again next time.
    stamps = {ref.source: stamp_of(ref) for ref in source.refs}

    def stands(ref: RecordingRef) -> bool:
        entry = entry_of.get(ref.source)
        return (
            entry is not None
            and entry.stamp == stamps[ref.source]
            and _as_declared(entry.ref, ref) == without_files(ref)
        )

    loader: RecordingSource | None = source
    if workers > 1 and (loader := without_listing(source)) is None:
        loader, workers = source, 1  # another store, which is copied by its index
    changed = [ref for ref in source.refs if not stands(ref)]
    entries: list[Entry] = []
    pending: list[Entry] = []
    failures: list[Problem] = []
    with closing(shards), ExitStack() as stack:
        packed = map_in_order(_pack, loader, changed, name=_source, workers=workers)
        stack.enter_context(closing(packed))
        waiting = {ref.source for ref in changed}
        for number, ref in enumerate(source.refs, start=1):
            entry = entry_of.get(ref.source)
            if ref.source in waiting:
                _, found = next(packed)
                if isinstance(found, Failure):
                    failures.append(Problem(ref.source, found.sentence, left_out=True))
                    entry = None
                else:
                    entry = _append(ref, stamps[ref.source], found, shards)
                    pending.append(entry)
            if entry is not None:
                entries.append(entry)
            if len(pending) >= BATCH or (strict and failures):
                _commit(journal, shards, pending)
            if strict and failures:
                raise DataError(
                    f"{failures[0]} {len(entries)} of {len(source.refs)} recordings are complete "
                    "and are kept: mend this one, and run the same command again."
                )
            if progress is not None:
                progress(number, len(source.refs))
        _commit(journal, shards, pending)
    return entries, failures


def _commit(journal: Journal, shards: ShardWriter, pending: list[Entry]) -> None:
    shards.flush()
    journal.append(pending)
    pending.clear()


@dataclass(frozen=True, slots=True)
class _Packed:
    """A recording as a store holds it."""

    series: NDArray[np.uint8 | np.uint16 | np.float32] | None
    image: ByteArray | None
    frequency: float
    samples_per_cycle: int
    repairs: tuple[str, ...]


def _pack(source: RecordingSource, ref: RecordingRef) -> _Packed:
    sample = read(source.load, ref)
    return _Packed(
        series=None if sample.series is None else _compact(sample.series),
        image=None if sample.image is None else _encode(sample.image),
        frequency=sample.frequency,
        samples_per_cycle=sample.samples_per_cycle,
        repairs=tuple(problem.sentence for problem in source.repairs(ref)),
    )


def _source(ref: RecordingRef) -> str:
    return ref.source


def _append(ref: RecordingRef, stamp: str, packed: _Packed, shards: ShardWriter) -> Entry:
    series, image = packed.series, packed.image
    return Entry(
        ref=replace(
            without_files(ref),
            frequency=packed.frequency,
            samples_per_cycle=packed.samples_per_cycle,
        ),
        stamp=stamp,
        repairs=packed.repairs,
        series=None if series is None else shards.append(series.data),
        dtype="" if series is None else series.dtype.str,
        shape=(0, 0) if series is None else series.shape,
        image=None if image is None else shards.append(image.data),
    )


def _as_declared(stored: RecordingRef, ref: RecordingRef) -> RecordingRef:
    """Return a stored reference without what its file said of frequency and values a cycle.

    What was declared of a recorder's file is in the stamp.
    """
    stored = without_files(stored)
    if RECORDER not in ref.extra:
        return stored
    return replace(stored, frequency=ref.frequency, samples_per_cycle=ref.samples_per_cycle)


def _compact(series: FloatArray) -> NDArray[np.uint8 | np.uint16 | np.float32]:
    """Return the series in the smallest type that holds it exactly."""
    low, high = series.min(), series.max()
    for dtype in map(np.dtype, _DTYPES):
        if low >= 0 and high <= np.iinfo(dtype).max:
            counts = series.astype(dtype)
            if np.array_equal(counts, series):
                return np.ascontiguousarray(counts)
    return np.ascontiguousarray(series, dtype="<f4")


def _encode(image: FloatArray) -> ByteArray:
    """Return the PNG bytes of ``(H, W, 3)`` in [0, 1]; they decode to the same floats."""
    counts = np.rint(image * np.float32(255)).astype(np.uint8)
    if not np.array_equal(_scaled(counts), image):
        counts = np.rint(image * np.float32(65535)).astype(np.uint16)
    success, content = cv2.imencode(".png", np.ascontiguousarray(counts[..., ::-1]))
    if not success:
        raise DataError(f"An image of shape {image.shape} could not be encoded as PNG.")
    return np.asarray(content).reshape(-1)


def _decode(content: ByteArray) -> FloatArray:
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return _scaled(np.asarray(pixels)[..., ::-1])


def _scaled(counts: NDArray[np.uint8] | NDArray[np.uint16]) -> FloatArray:
    scale = np.float32(np.iinfo(counts.dtype).max)
    return np.ascontiguousarray(counts, dtype=np.float32) / scale
