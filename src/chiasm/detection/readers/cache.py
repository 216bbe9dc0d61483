"""A cache of prepared samples on disk, keyed by content and settings; safe across processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

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
        return self._get_at(self.path(ref, settings), source, ref, settings)

    def parts(
        self, source: SampleSource, refs: Sequence[SampleRef], settings: PreparationSettings
    ) -> PreparedParts:
        """Return prepared samples as a sequence that reads each from the cache when it is used."""
        return PreparedParts(self, source, refs, settings)

    def _get_at(
        self,
        path: Path | None,
        source: SampleSource,
        ref: SampleRef,
        settings: PreparationSettings,
    ) -> PreparedSample:
        if path is not None:
            try:
                return _read(path, ref)
            except FileNotFoundError:
                pass
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                logger.warning("%s is damaged; the sample is prepared again.", path)
        prepared = prepare(source.load(ref), settings, part=ref.part)
        if path is not None:
            self._write(path, prepared)
        return prepared

    def path(self, ref: SampleRef, settings: PreparationSettings) -> Path | None:
        """Return where the sample's entry is or will be; None if its files cannot be read."""
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
        if ref.part is not None:
            facts["part"] = ref.part
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


class PreparedParts(Sequence[PreparedSample]):
    """Prepared samples that stay on disk: each is read from the cache when it is used.

    The first use of a sample prepares it, or checks its entry; later uses read the entry alone. A
    sample that the cache cannot store stays in memory.

    Args:
        cache: of the samples.
        source: of the files.
        refs: which samples, in this order.
        settings: of the preparation.
    """

    def __init__(
        self,
        cache: PreparationCache,
        source: SampleSource,
        refs: Sequence[SampleRef],
        settings: PreparationSettings,
    ) -> None:
        self._cache, self._source = cache, source
        self._refs, self._settings = refs, settings
        self._paths: dict[int, Path] = {}  # of entries that were read once
        self._kept: dict[int, PreparedSample] = {}  # without an entry

    def __len__(self) -> int:
        return len(self._refs)

    @overload
    def __getitem__(self, position: int) -> PreparedSample: ...
    @overload
    def __getitem__(self, position: slice) -> list[PreparedSample]: ...
    def __getitem__(self, position: int | slice) -> PreparedSample | list[PreparedSample]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        number = range(len(self))[position]
        if number in self._kept:
            return self._kept[number]
        if (path := self._paths.get(number)) is not None:
            try:
                return _read(path, self._refs[number], check=False)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                del self._paths[number]  # the entry was removed meanwhile
        return self._first(number)

    def _first(self, number: int) -> PreparedSample:
        ref = self._refs[number]
        path = self._cache.path(ref, self._settings)
        part = self._cache._get_at(path, self._source, ref, self._settings)
        if path is not None and path.exists():
            self._paths[number] = path
        else:
            self._kept[number] = part
        return part


class SelectedParts(Sequence[PreparedSample]):
    """Some samples of a sequence, in the order of their positions there.

    Args:
        parts: all samples; read when one is used.
        positions: of the selected ones.
    """

    def __init__(self, parts: Sequence[PreparedSample], positions: Sequence[int]) -> None:
        self._parts, self._positions = parts, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, position: int) -> PreparedSample: ...
    @overload
    def __getitem__(self, position: slice) -> list[PreparedSample]: ...
    def __getitem__(self, position: int | slice) -> PreparedSample | list[PreparedSample]:
        if isinstance(position, slice):
            return [self._parts[i] for i in self._positions[position]]
        return self._parts[self._positions[position]]


def with_defects(
    parts: Sequence[PreparedSample], defects: Sequence[PreparedSample]
) -> Sequence[PreparedSample]:
    """Return parts with known defects after them; the parts themselves where there are none."""
    return _Joined(parts, defects) if defects else parts


class _Joined(Sequence[PreparedSample]):
    def __init__(self, first: Sequence[PreparedSample], second: Sequence[PreparedSample]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    @overload
    def __getitem__(self, position: int) -> PreparedSample: ...
    @overload
    def __getitem__(self, position: slice) -> list[PreparedSample]: ...
    def __getitem__(self, position: int | slice) -> PreparedSample | list[PreparedSample]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        number = range(len(self))[position]
        first = len(self._first)
        return self._first[number] if number < first else self._second[number - first]


def _read(path: Path, ref: SampleRef, *, check: bool = True) -> PreparedSample:
    """Read an entry; ``check`` compares its checksums, which takes most of the time."""
    # np.load would leave a damaged entry's file open.
    with path.open("rb") as stream:
        stored = _checked(stream) if check else _unchecked(stream)
    box = CropBox(*(int(v) for v in stored["box"]))
    plane = None
    if "plane" in stored:
        a, b, c, d = stored["plane"].tolist()
        plane = (a, b, c, d)
    arrays: dict[str, Any] = {name: stored.get(name) for name in ARRAYS}
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


def _checked(stream: BinaryIO) -> dict[str, Any]:
    with np.load(stream, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _unchecked(stream: BinaryIO) -> dict[str, Any]:
    """Read the arrays where they lie in the archive; ``np.savez`` stores them uncompressed."""
    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
    for member in members:
        stream.seek(member.header_offset)
        header = stream.read(30)  # of a member, whose name and extra field follow it
        lengths = (int.from_bytes(header[place : place + 2], "little") for place in (26, 28))
        stream.seek(member.header_offset + len(header) + sum(lengths))
        arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(stream)
    return arrays
