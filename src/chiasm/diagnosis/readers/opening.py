"""Open the recordings of a path with the reader that fits, and their store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from chiasm.diagnosis.readers.aihub import has_archive_folders
from chiasm.diagnosis.readers.manifest import RecordingManifest
from chiasm.diagnosis.readers.recording_folder import (
    RecordingFolder,
    holds_pairs,
    holds_series,
    plainly_series,
)
from chiasm.diagnosis.readers.source import RecordingSource
from chiasm.diagnosis.readers.store import RecordingStore, convert
from chiasm.diagnosis.recorders.recorder_settings import SETTINGS_FILE
from chiasm.files.content_hash import default_cache_folder
from chiasm.files.images import RGB_SUFFIXES
from chiasm.files.readers import find_reader, open_with_reader
from chiasm.files.tables import read_rows
from chiasm.files.words import holds_range_data, is_good
from chiasm.training.progress import Progress

_OF_PARTS = frozenset({"rgb", "xyz", "depth", "mask", "mask_path", "label_index"})


def open_source(
    path: Path | str,
    *,
    partner: Path | str | None = None,
    recorder: Sequence[str] = (),
) -> RecordingSource:
    """Return the reader that fits.

    Args:
        path: of the recordings.
        partner: the file of the other modality if ``path`` is a single picture or series.
        recorder: ``NAME=VALUE`` each: what the recorder's files do not say (``RecorderSettings``).

    Raises:
        DataError: no reader fits, or the one that does takes no such option.
    """
    if (
        recorder
        and Path(path).is_file()
        and find_reader("diagnosis", Path(path)) is RecordingManifest
    ):
        columns, _ = read_rows(Path(path))
        if not {"series", "image"} & set(columns):
            return RecordingFolder(path, partner=partner, recorder=tuple(recorder))
    source: RecordingSource = open_with_reader(
        "diagnosis", path, partner=partner, recorder=tuple(recorder) or None
    )
    return source


def is_diagnosis_data(path: Path | str) -> bool:
    """Return whether a path holds recordings, not parts or unsupported files."""
    path = Path(path)
    if path.is_dir() and not (path / SETTINGS_FILE).is_file() and holds_range_data(path):
        return False  # also where pictures lie beside arrays, as they do beside series
    reader = find_reader("diagnosis", path)
    if reader is RecordingManifest:
        columns, rows = read_rows(path)
        names = set(columns)
        if "series" in names or "image" not in names:
            return "series" in names and not _OF_PARTS & names
        # A table of parts can name its pictures so, too: it has masks, or says what is good.
        return not _OF_PARTS & names and not any(is_good(row.get("label", "")) for row in rows)
    if reader is RecordingFolder and path.is_file():
        # A picture, an array and a table of numbers may be a part, too.
        foreign = path.suffix.lower() not in RGB_SUFFIXES and not find_reader("detection", path)
        return foreign or plainly_series(path)
    if reader is RecordingFolder:
        # Pictures alone may be parts.
        return path.is_dir() and (
            holds_pairs(path) or holds_series(path) or has_archive_folders(path)
        )
    return reader is not None


def open_store(
    path: Path | str,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RecordingStore:
    """Return the store of some recordings; convert them into a cache folder first if needed.

    Recordings that have not changed since the last conversion are not read again. ``cache`` is by
    default the user's cache folder. Without ``progress`` a line of progress is shown. Raises
    ``DataError`` as readers and conversion do.
    """
    source = open_source(path)
    if isinstance(source, RecordingStore):
        return source
    digest = hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:12]
    folder = Path(cache or default_cache_folder()) / "discharges" / f"{source.name}-{digest}"
    if progress is not None:
        return convert(source, folder, progress=progress)
    with Progress("Storing", len(source.refs), unit="recordings") as line:
        return convert(source, folder, progress=lambda done, _: line.update(done - line.count))
