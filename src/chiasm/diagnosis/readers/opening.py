"""Open the recordings of a path with the reader that fits, and their store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from chiasm.diagnosis.readers import aihub, recording_folder
from chiasm.diagnosis.readers.journal import INDEX
from chiasm.diagnosis.readers.manifest import RecordingManifest
from chiasm.diagnosis.readers.recording_folder import RecordingFolder, is_one_recording
from chiasm.diagnosis.readers.source import RecordingSource
from chiasm.diagnosis.readers.store import RecordingStore, convert
from chiasm.errors import DataError
from chiasm.files.content_hash import default_cache_folder
from chiasm.files.tables import SUFFIXES, read_rows

SUPPORTED = (
    "Supported are: a folder in the layout of AI-Hub 71682 (with folders VS_... and VL_...), a CSV "
    "or Parquet table with columns such as image, series and label, a converted store and, for "
    "diagnosis, a folder of pictures and series of the same names, or a single file of these."
)


def open_source(path: Path | str, *, partner: Path | str | None = None) -> RecordingSource:
    """Return the reader that fits; raise ``DataError`` if none does.

    ``partner`` is the file of the other modality if ``path`` is a single picture or series.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path. {SUPPORTED}")
    if path.is_file() and is_one_recording(path):
        return RecordingFolder(path, partner=partner)
    if partner is not None:
        raise DataError(f"{path} is no single picture or series to which {partner} could belong.")
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is neither a CSV nor a Parquet file. {SUPPORTED}")
        return RecordingManifest(path)
    if (path / INDEX).exists():
        return RecordingStore.open(path)
    if aihub.recognises(path):
        labelled = any(path.rglob("*.[jJ][sS][oO][nN]"))
        return aihub.AiHub(path) if labelled else RecordingFolder(path)
    if recording_folder.recognises(path) or recording_folder.holds_recording_files(path):
        return RecordingFolder(path)
    raise DataError(f"{path} has no supported layout. {SUPPORTED}")


def is_diagnosis_data(path: Path | str) -> bool:
    """Whether a path holds recordings, not parts or unsupported files."""
    path = Path(path)
    if path.is_dir():
        return (
            (path / INDEX).exists() or aihub.recognises(path) or recording_folder.recognises(path)
        )
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        return False
    columns, _ = read_rows(path)
    # A table of parts can name its pictures so, too.
    return bool({"image", "series"} & set(columns)) and not {"rgb", "xyz", "depth"} & set(columns)


def open_store(
    path: Path | str,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RecordingStore:
    """Return the store of some recordings; convert them into a cache folder first if needed.

    Recordings that have not changed since the last conversion are not read again. ``cache`` is by
    default the user's cache folder. Raises ``DataError`` as readers and conversion do.
    """
    source = open_source(path)
    if isinstance(source, RecordingStore):
        return source
    digest = hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:12]
    folder = Path(cache or default_cache_folder()) / "discharges" / f"{source.name}-{digest}"
    return convert(source, folder, progress=progress)
