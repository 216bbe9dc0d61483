"""Reader of a folder of recordings without labels: pictures and series that share a name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from chiasm.diagnosis.readers.series_files import read_numbers_csv, read_series_npy
from chiasm.diagnosis.readers.source import (
    LEFT_OUT,
    FileReader,
    Problems,
    RecordingRef,
    read_pattern,
    recorded_sample,
)
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.samples import RecordingSample

SERIES_SUFFIXES = frozenset({".csv", ".npy"})


class RecordingFolder(FileReader):
    """Recordings of unknown faults, or a single one: ``STEM.png`` and ``STEM.csv`` are partners.

    Files may lie anywhere below the folder, e.g. in ``image/`` and ``series/``; one without a
    partner is a recording of one modality. A .csv holds rows that follow each other in time, a
    .npy a row for each channel. Nothing says the mains frequency, so that 60 Hz and 128 values a
    cycle are taken. Two files of one kind and name are left out and listed in ``problems``; a .csv
    with a header and no partner is some table and passed over.

    Args:
        root: the folder, or one file.
        partner: of a single file, that of the other modality.

    Raises:
        DataError: there is no picture and no series.
    """

    kinds: tuple[str, ...] = ()

    def __init__(self, root: Path | str, *, partner: Path | str | None = None) -> None:
        self.root = Path(root)
        found: list[str] = []
        if self.root.is_file():
            given = [self.root] if partner is None else [self.root, Path(partner)]
            self._refs = (_recording(_roles(given)),)
        else:
            self._refs = tuple(_recordings(self.root, found))
        if not self._refs:
            raise DataError(
                f"{self.root} holds no recording: pictures ({', '.join(sorted(RGB_SUFFIXES))}) and "
                f"series ({', '.join(sorted(SERIES_SUFFIXES))}) of one name were expected. "
                f"{' '.join(found[:3])}".strip()
            )
        if any("series" in ref.files for ref in self._refs):
            first = self._refs[0]
            found.append(
                f"Nothing in {self.root} says the mains frequency; {first.frequency:g} Hz and "
                f"{first.samples_per_cycle} values a cycle were taken. A table can say others."
            )
        self._problems = Problems(found)

    @property
    def name(self) -> str:
        """Name of the folder, or of the file without its suffix."""
        return self.root.resolve().stem if self.root.is_file() else self.root.resolve().name

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording: image ``(H, W, 3)``, series ``(C, T)`` in the recorder's counts.

        Raises ``DataError`` naming the file, and the row of a faulty series.
        """
        repairs: list[str] = []
        image, series = ref.files.get("image"), ref.files.get("series")
        read = read_series_npy if series and series.suffix.lower() == ".npy" else read_numbers_csv
        sample = recorded_sample(
            ref,
            image=None if image is None else read_pattern(image, repairs),
            series=None if series is None else read(series),
        )
        self._problems.note(ref, repairs)
        return sample


def recognises(root: Path) -> bool:
    """Tell whether there is ``image/`` or ``series/``, or a picture and a series of one name."""
    if (root / "image").is_dir() or (root / "series").is_dir():
        return True
    stems: dict[str, set[str]] = defaultdict(set)
    for path in root.iterdir():
        role = _role(path)
        if role:
            stems[path.stem].add(role)
    return any(len(roles) == 2 for roles in stems.values())


def is_one_recording(path: Path) -> bool:
    """Tell whether a file is a picture or a series rather than a table, of files or of results."""
    if path.suffix.lower() != ".csv":
        return bool(_role(path))
    with path.open("rb") as stream:
        first = stream.read(64).removeprefix(b"\xef\xbb\xbf").split(b",")[0]
    try:
        float(first)
    except ValueError:
        return False
    return True


def holds_any(root: Path) -> bool:
    """Tell whether a picture or a series lies directly in a folder; parts can look so, too."""
    return any(_role(path) and not path.name.startswith(".") for path in root.iterdir())


def _recordings(root: Path, problems: list[str]) -> Iterator[RecordingRef]:
    files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            role = _role(path)
            if role and not name.startswith("."):
                files[path.stem][role].append(path)
    for stem in sorted(files):
        twice = next((paths for paths in files[stem].values() if len(paths) > 1), None)
        if twice:
            problems.append(
                f"{twice[0]} and {twice[1]} have one name; which belongs to the recording cannot "
                f"be told. {LEFT_OUT}"
            )
            continue
        own = {role: paths[0] for role, paths in files[stem].items()}
        if "image" in own or is_one_recording(own["series"]):
            yield _recording(own)


def _roles(paths: list[Path]) -> dict[str, Path]:
    """The files by what they are; ``DataError`` where one is neither, or two are the same."""
    found: dict[str, Path] = {}
    for path in paths:
        role = _role(path)
        if not role or role in found:
            raise DataError(
                f"{path} is no {'picture or series' if not role else f'partner of {found[role]}'}: "
                "a recording is a picture, a series (.csv, .npy), or one of each."
            )
        found[role] = path
    return found


def _recording(files: dict[str, Path]) -> RecordingRef:
    return RecordingRef(source=str(files.get("image") or files["series"]), files=files)


def _role(path: Path) -> str:
    """``"image"``, ``"series"`` or ``""`` by the file's suffix."""
    suffix = path.suffix.lower()
    return "image" if suffix in RGB_SUFFIXES else "series" if suffix in SERIES_SUFFIXES else ""
