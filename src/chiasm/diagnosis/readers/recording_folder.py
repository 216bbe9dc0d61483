"""Reader of a folder of recordings without labels: pictures and series that share a name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from chiasm.diagnosis.readers.aihub import AiHub, has_archive_folders
from chiasm.diagnosis.readers.series_files import read_numbers_csv, read_series_npy
from chiasm.diagnosis.readers.source import (
    ProblemLog,
    RecordingRef,
    problem_message,
    read_pattern,
    sample_from_ref,
)
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.files.readers import reader
from chiasm.samples import Problem, RecordingSample

SERIES_SUFFIXES = frozenset({".csv", ".npy"})


@reader("diagnosis", order=1)
class RecordingFolder:
    """Recordings of unknown faults, or a single one: ``STEM.png`` and ``STEM.csv`` are partners.

    Files may lie anywhere below the folder, e.g. in ``image/`` and ``series/``; one without a
    partner is a recording of one modality. The rows of a .csv follow each other in time; each row
    of a .npy is a channel. The files name no mains frequency: 60 Hz and 128 values a cycle are
    assumed. Two files of one kind and name are left out and listed in ``problems``; a .csv with a
    header and without a partner is ignored.

    Args:
        root: the folder, or one file.
        partner: the file of the other modality, if ``root`` is a file.

    Raises:
        DataError: there is no picture and no series.
    """

    layout = "a folder of pictures and series of the same names, or a single file of these"
    kinds: tuple[str, ...] = ()

    def __init__(self, root: Path | str, *, partner: Path | str | None = None) -> None:
        self.root = Path(root)
        problems: list[Problem] = []
        if self.root.is_file():
            files = [self.root] if partner is None else [self.root, Path(partner)]
            self.refs: tuple[RecordingRef, ...] = (_recording(_roles(files)),)
        elif partner is not None:
            raise DataError(
                f"{self.root} is no single picture or series to which {partner} could belong."
            )
        else:
            self.refs = tuple(_recordings(self.root, problems))
        if not self.refs:
            causes = " ".join(map(problem_message, problems[:3]))
            raise DataError(
                f"{self.root} holds no recording: pictures ({', '.join(sorted(RGB_SUFFIXES))}) and "
                f"series ({', '.join(sorted(SERIES_SUFFIXES))}) of one name were expected. "
                f"{causes}".strip()
            )
        if any("series" in ref.files for ref in self.refs):
            first = self.refs[0]
            sentence = (
                f"{self.root} does not name the mains frequency; {first.frequency:g} Hz and "
                f"{first.samples_per_cycle} values a cycle are assumed. A table can name others."
            )
            problems.append(Problem(str(self.root), sentence, left_out=False))
        self._log = ProblemLog(problems)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a path is, or directly holds, a picture or a series, or their folders.

        A folder of parts may hold pictures, too.
        """
        if path.is_file():
            return is_one_recording(path)
        return path.is_dir() and (
            holds_pairs(path)
            or any(_role(file) and not file.name.startswith(".") for file in path.iterdir())
            or (has_archive_folders(path) and not AiHub.recognises(path))
        )

    @property
    def name(self) -> str:
        """Name of the folder, or of the file without its suffix."""
        return self.root.resolve().stem if self.root.is_file() else self.root.resolve().name

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out or repaired so far."""
        return self._log.all()

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return what the last ``load`` of the recording repaired."""
        return self._log.repairs(ref)

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording: image ``(H, W, 3)``, series ``(C, T)`` in the recorder's counts.

        Raises ``DataError`` that names the file, and the row of a faulty series.
        """
        repairs: list[str] = []
        image, series = ref.files.get("image"), ref.files.get("series")
        read = read_series_npy if series and series.suffix.lower() == ".npy" else read_numbers_csv
        sample = sample_from_ref(
            ref,
            image=None if image is None else read_pattern(image, repairs),
            series=None if series is None else read(series),
        )
        self._log.set_repairs(ref, repairs)
        return sample


def holds_pairs(root: Path) -> bool:
    """Return whether there is ``image/`` or ``series/``, or a picture and a series of one name."""
    if (root / "image").is_dir() or (root / "series").is_dir():
        return True
    stems: dict[str, set[str]] = defaultdict(set)
    for path in root.iterdir():
        role = _role(path)
        if role:
            stems[path.stem].add(role)
    return any(len(roles) == 2 for roles in stems.values())


def is_one_recording(path: Path) -> bool:
    """Whether a file is a picture or a series, not a table of files or results."""
    if path.suffix.lower() != ".csv":
        return bool(_role(path))
    with path.open("rb") as stream:
        first = stream.read(64).removeprefix(b"\xef\xbb\xbf").split(b",")[0]
    try:
        float(first)
    except ValueError:
        return False
    return True


def _recordings(root: Path, problems: list[Problem]) -> Iterator[RecordingRef]:
    paths_by_role: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            role = _role(path)
            if role and not name.startswith("."):
                paths_by_role[path.stem][role].append(path)
    for _, roles in sorted(paths_by_role.items()):
        duplicates = next((paths for paths in roles.values() if len(paths) > 1), None)
        if duplicates:
            sentence = (
                f"{duplicates[0]} and {duplicates[1]} have one name; it is unknown which one "
                "belongs to the recording."
            )
            problems.append(Problem(str(duplicates[0]), sentence, left_out=True))
            continue
        files = {role: paths[0] for role, paths in roles.items()}
        if "image" in files or is_one_recording(files["series"]):
            yield _recording(files)


def _roles(paths: list[Path]) -> dict[str, Path]:
    """Return the files by role; ``DataError`` if one has no role, or two have the same."""
    files: dict[str, Path] = {}
    for path in paths:
        role = _role(path)
        if not role or role in files:
            raise DataError(
                f"{path} is no {'picture or series' if not role else f'partner of {files[role]}'}: "
                "a recording is a picture, a series (.csv, .npy), or one of each."
            )
        files[role] = path
    return files


def _recording(files: dict[str, Path]) -> RecordingRef:
    return RecordingRef(source=str(files.get("image") or files["series"]), files=files)


def _role(path: Path) -> str:
    """Return ``"image"``, ``"series"`` or ``""`` by the file's suffix."""
    suffix = path.suffix.lower()
    return "image" if suffix in RGB_SUFFIXES else "series" if suffix in SERIES_SUFFIXES else ""
