"""A compact copy of recordings that is read through memory maps, made once from any source.

A folder of few files: ``recordings-00000.bin`` ..., about 1 GiB each, hold the bytes of series
(uint8 or uint16 where that is exact, else float32) and images (PNG, 8 bits a channel where that
is exact, else 16); ``index.jsonl`` says what lies where. A recording is always read whole, so
chunks and codecs as of Zarr or Parquet would buy a dependency and a slower read; and files that
are only appended to can be continued after a kill at any moment: bytes first, then, when they are
on the disk, a line of ``journal.jsonl``; the index takes its place at the end. Readers see the
old index or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.readers.journal import (
    INDEX,
    Entry,
    Index,
    Journal,
    bare,
    read_index,
    sole_writer,
    stamp_of,
    write_index,
)
from chiasm.diagnosis.readers.shards import ByteArray, ShardReader, ShardWriter
from chiasm.diagnosis.readers.source import LEFT_OUT, RecordingRef, RecordingSource, recorded_sample
from chiasm.errors import DataError
from chiasm.samples import FloatArray, RecordingSample

# Recordings between two waits for the disk: what a kill can cost.
BATCH = 64
_DTYPES = ("|u1", "<u2")


class RecordingStore:
    """The recordings of a finished store; a source like any other.

    Safe for several processes at once: nothing is written, maps are opened in each process by
    itself, and it can be pickled. The bytes of a recording are checked against their checksum the
    first time that a process reads them.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._index = read_index(self.path)
        self._refs = tuple(entry.ref for entry in self._index.entries)
        self._shards = ShardReader(self.path)
        self._series_seen = bytearray(len(self._refs))
        self._image_seen = bytearray(len(self._refs))

    @classmethod
    def open(cls, path: Path | str) -> RecordingStore:
        """Open a store; ``DataError`` for a folder that is none, is not finished, or damaged."""
        return cls(path)

    @property
    def name(self) -> str:
        """Name of the source that was converted."""
        return self._index.name

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return self._index.kinds

    @property
    def refs(self) -> tuple[RecordingRef, ...]:
        """All recordings, in the order of the source that was converted."""
        return self._refs

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for whatever was left out or repaired in the conversion."""
        repairs = (sentence for entry in self._index.entries for sentence in entry.repairs)
        return (*self._index.problems, *repairs)

    def repairs(self, ref: RecordingRef) -> tuple[str, ...]:
        """What was repaired in the recording when it was converted."""
        return self._entry(ref).repairs

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording, as its own source gave it; raises ``DataError`` for damage."""
        series = self.counts(ref)
        return recorded_sample(
            ref,
            image=self.image(ref),
            series=None if series is None else series.astype(np.float32),
            segment=1,
        )

    def counts(self, ref: RecordingRef) -> NDArray[np.uint8 | np.uint16 | np.float32] | None:
        """The series as it lies on the disk, without a copy.

        Returns ``(C, T)``, read-only, of the smallest type that holds it; None where the
        recording has no series. Raises ``DataError`` for damage.
        """
        entry = self._entry(ref)
        if entry.series is None:
            return None
        if not self._series_seen[ref.number]:
            self._shards.check(entry.series, f"in the series of {ref.source}")
            self._series_seen[ref.number] = 1
        return self._shards.read(entry.series).view(entry.dtype).reshape(entry.shape)

    def has_image(self, ref: RecordingRef) -> bool:
        """Tell whether the recording has an image, without decoding it."""
        return self._entry(ref).image is not None

    def image(self, ref: RecordingRef) -> FloatArray | None:
        """The image, ``(H, W, 3)`` float32 in [0, 1]; None where the recording has none."""
        entry = self._entry(ref)
        if entry.image is None:
            return None
        if not self._image_seen[ref.number]:
            self._shards.check(entry.image, f"in the image of {ref.source}")
            self._image_seen[ref.number] = 1
        return _decoded(self._shards.read(entry.image))

    def verify(self) -> None:
        """Read everything and compare it with its checksum; ``DataError`` at the first damage."""
        for entry in self._index.entries:
            for blob in entry.blobs():
                self._shards.check(blob, f"in {entry.ref.source}")

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
) -> RecordingStore:
    """Copy a source into a store, or continue a copy that was killed, or bring one up to date.

    Recordings that are there already, made from files of the same size and date, are not read
    again; those whose files changed are. What cannot be read is left out and told in the store's
    ``problems``, and is tried again by the next conversion. ``progress`` is called with the
    number done and the number of all. Another process that writes the same store is waited for,
    ``patience_s`` at most. Raises ``DataError`` where not one recording can be read, that process
    does not end, or the disk refuses.
    """
    path = Path(path)
    opening = tuple(source.problems)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with sole_writer(path, patience_s=patience_s):
            entries, failures = _copied(source, path, progress)
            if not entries:
                raise DataError(
                    f"Not one recording of {source.name} can be read. {' '.join(failures[:3])}"
                )
            # The repairs of recordings stand in their own entries.
            repairs = {sentence for entry in entries for sentence in entry.repairs}
            told = [s for s in dict.fromkeys((*opening, *failures)) if s not in repairs]
            write_index(path, Index(source.name, source.kinds, tuple(told), tuple(entries)))
    except OSError as cause:
        raise DataError(f"{path} cannot be written: {cause.strerror or cause}.") from cause
    return RecordingStore(path)


def _copied(
    source: RecordingSource, path: Path, progress: Callable[[int, int], None] | None
) -> tuple[list[Entry], list[str]]:
    """An entry for each recording that can be read, and a sentence for each that cannot."""
    journal = Journal(path)
    there = [*(read_index(path).entries if (path / INDEX).exists() else ()), *journal.entries]
    known = {entry.ref.source: entry for entry in there}
    shards = ShardWriter(path, [blob for entry in there for blob in entry.blobs()])
    entries: list[Entry] = []
    fresh: list[Entry] = []
    failures: list[str] = []
    try:
        for number, ref in enumerate(source.refs, start=1):
            entry = known.get(ref.source)
            if entry is None or entry.stamp != stamp_of(ref) or bare(entry.ref) != bare(ref):
                entry = _stored(source, ref, shards, failures)
                if entry is not None:
                    fresh.append(entry)
            if entry is not None:
                entries.append(entry)
            if len(fresh) >= BATCH:
                _commit(journal, shards, fresh)
            if progress is not None:
                progress(number, len(source.refs))
        _commit(journal, shards, fresh)
    finally:
        shards.close()
    return entries, failures


def _commit(journal: Journal, shards: ShardWriter, fresh: list[Entry]) -> None:
    shards.flush()
    journal.append(fresh)
    fresh.clear()


def _stored(
    source: RecordingSource, ref: RecordingRef, shards: ShardWriter, failures: list[str]
) -> Entry | None:
    """The entry of a recording whose bytes were appended; None where it cannot be read."""
    stamp = stamp_of(ref)  # before reading: a file that changes meanwhile is read again
    try:
        sample = source.load(ref)
    except DataError as fault:
        failures.append(f"{fault} {LEFT_OUT}")
        return None
    series = None if sample.series is None else _smallest(sample.series)
    image = None if sample.image is None else _encoded(sample.image)
    return Entry(
        ref=bare(ref),
        stamp=stamp,
        repairs=source.repairs(ref),
        series=None if series is None else shards.append(series),
        dtype="" if series is None else series.dtype.str,
        shape=(0, 0) if series is None else series.shape,
        image=None if image is None else shards.append(image),
    )


def _smallest(series: FloatArray) -> NDArray[np.uint8 | np.uint16 | np.float32]:
    """The series in the smallest type that holds it exactly."""
    low, high = series.min(), series.max()
    for dtype in map(np.dtype, _DTYPES):
        if low >= 0 and high <= np.iinfo(dtype).max:
            counts = series.astype(dtype)
            if np.array_equal(counts, series):
                return np.ascontiguousarray(counts)
    return np.ascontiguousarray(series, dtype="<f4")


def _encoded(image: FloatArray) -> ByteArray:
    """PNG bytes of ``(H, W, 3)`` in [0, 1], from which the same floats come back."""
    counts = np.rint(image * np.float32(255)).astype(np.uint8)
    if not np.array_equal(_scaled(counts), image):
        counts = np.rint(image * np.float32(65535)).astype(np.uint16)
    done, content = cv2.imencode(".png", np.ascontiguousarray(counts[..., ::-1]))
    if not done:
        raise DataError(f"An image of shape {image.shape} could not be encoded as PNG.")
    return np.asarray(content).reshape(-1)


def _decoded(content: ByteArray) -> FloatArray:
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return _scaled(np.asarray(pixels)[..., ::-1])


def _scaled(counts: NDArray[np.uint8] | NDArray[np.uint16]) -> FloatArray:
    scale = np.float32(np.iinfo(counts.dtype).max)
    return np.ascontiguousarray(counts, dtype=np.float32) / scale
