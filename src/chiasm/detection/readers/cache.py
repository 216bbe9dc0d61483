"""A cache of prepared samples on disk, keyed by content and settings; safe across processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.files.content_hash import content_hash, default_cache_folder
from chiasm.samples import CropBox, PreparedSample

logger = logging.getLogger(__name__)

# Increase it when preparation gives other numbers for the same files and settings.
PREPARATION_VERSION = 1

ARRAYS = ("rgb", "xyz", "height", "normals", "depth", "valid", "foreground", "mask")


class PreparationCache:
    """Prepares each sample once and stores the result.

    An entry is written under a temporary name and then renamed, so that another process sees all
    of it or nothing. A damaged entry is replaced. If the folder cannot be written, one warning is
    logged and samples are prepared without the cache.

    Args:
        folder: of the entries; None takes ``default_cache_folder()``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_cache_folder()
        self._warned = False

    def get(
        self, source: SampleSource, ref: SampleRef, settings: PreparationSettings
    ) -> PreparedSample:
        """Return the prepared sample; raises the errors of loading and preparing."""
        path = self._path(ref, settings)
        if path is not None:
            try:
                return _read(path, ref)
            except FileNotFoundError:
                pass
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                logger.warning("%s is damaged; the sample is prepared again.", path)
        prepared = prepare(source.load(ref), settings)
        if path is not None:
            self._write(path, prepared)
        return prepared

    def _path(self, ref: SampleRef, settings: PreparationSettings) -> Path | None:
        try:
            content = content_hash(ref.files.values())
        except OSError:
            return None  # loading will name the fault of the file
        facts = {
            "content": content,
            "settings": dataclasses.asdict(settings),
            "version": PREPARATION_VERSION,
            "label": ref.label,
            "extra": dict(ref.extra),
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.npz"

    def _write(self, path: Path, sample: PreparedSample) -> None:
        arrays: dict[str, Any] = {
            name: value for name in ARRAYS if (value := getattr(sample, name)) is not None
        }
        arrays["box"] = np.array(dataclasses.astuple(sample.box))
        if sample.plane is not None:
            arrays["plane"] = np.array(sample.plane)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
                try:
                    np.savez(stream, **arrays)
                except BaseException:
                    Path(stream.name).unlink(missing_ok=True)
                    raise
            Path(stream.name).replace(path)
        except OSError as error:
            if not self._warned:
                logger.warning("The cache %s cannot be written (%s).", self.folder, error)
            self._warned = True


def _read(path: Path, ref: SampleRef) -> PreparedSample:
    # np.load would leave a damaged entry's file open.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        arrays: dict[str, Any] = {
            name: (stored[name] if name in stored.files else None) for name in ARRAYS
        }
        box = CropBox(*(int(v) for v in stored["box"]))
        plane = None
        if "plane" in stored:
            a, b, c, d = stored["plane"].tolist()
            plane = (a, b, c, d)
    return PreparedSample(
        **arrays,
        box=box,
        plane=plane,
        label=ref.label,
        kind=ref.kind,
        group=ref.group,
        split=ref.split,
        source=ref.source,
    )
