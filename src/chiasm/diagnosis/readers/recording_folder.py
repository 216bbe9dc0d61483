"""Reader of a folder of recordings without labels: pictures and series that share a name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.readers.aihub import AiHub, has_archive_folders
from chiasm.diagnosis.readers.journal import RECORDER
from chiasm.diagnosis.readers.source import (
    ProblemLog,
    RecordingRef,
    problem_message,
    read_pattern,
    sample_from_ref,
)
from chiasm.diagnosis.recorders.column_names import role_of
from chiasm.diagnosis.recorders.instrument_tables import read_instrument_table
from chiasm.diagnosis.recorders.instruments import monitor_files
from chiasm.diagnosis.recorders.recorded import (
    RAW_SUFFIXES,
    RECORDER_SUFFIXES,
    RecorderSettings,
)
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file
from chiasm.diagnosis.recorders.recorder_settings import SETTINGS_FILE, recorder_settings
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.files.readers import reader
from chiasm.samples import Problem, RecordingSample

SERIES_SUFFIXES = RECORDER_SUFFIXES | RAW_SUFFIXES
# What is also written for people or programs, and is looked into before it counts.
_LOOKED_INTO = 65536  # bytes
_DIGIT = re.compile(rb"[0-9]")
_NUMERIC = b"0123456789+-.,;eE\t\r "
_XML_LIST = re.compile(rb"<(\w+:)?(times|phases?|samples?|amplitudes?|charges?)>", re.IGNORECASE)
_TEXT = frozenset({".csv", ".txt", ".tsv", ".asc", ".dat", ".lvm", ".prn", ".xml"})


@reader("diagnosis", order=1)
class RecordingFolder:
    """Recordings of unknown faults, or a single one: ``STEM.png`` and ``STEM.csv`` are partners.

    Files may lie anywhere below the folder, e.g. in ``image/`` and ``series/``; one without a
    partner is a recording of one modality. What a file holds is told from its content (see
    ``read_recorder_file``): the rows of a plain table follow each other in time, each row of a .npy
    is a channel. What the files do not say stands in ``recorder.yaml`` in the folder, or is given;
    else 60 Hz and 128 values a cycle are assumed. Two files of one kind and name are left out and
    listed in ``problems``; a text without numbers is ignored.

    Args:
        root: the folder, or one file.
        partner: the file of the other modality, if ``root`` is a file.
        recorder: ``NAME=VALUE`` each, see ``recorder_settings``.

    Raises:
        DataError: there is no picture and no series.
    """

    layout = "a folder of pictures and series of the same names, or a single file of these"
    kinds: tuple[str, ...] = ()

    def __init__(
        self,
        root: Path | str,
        *,
        partner: Path | str | None = None,
        recorder: Sequence[str] = (),
    ) -> None:
        self.root = Path(root)
        self.settings = recorder_settings(self.root, recorder)
        problems: list[Problem] = []
        if self.root.is_file():
            files = [self.root] if partner is None else [self.root, Path(partner)]
            self.refs: tuple[RecordingRef, ...] = (_recording(_roles(files), self.settings),)
        elif partner is not None:
            raise DataError(
                f"{self.root} is no single picture or series to which {partner} could belong."
            )
        else:
            self.refs = tuple(recordings_below(self.root, problems, self.settings))
        if not self.refs:
            causes = " ".join(map(problem_message, problems[:3]))
            raise DataError(
                f"{self.root} holds no recording: pictures ({', '.join(sorted(RGB_SUFFIXES))}) and "
                f"series ({', '.join(sorted(SERIES_SUFFIXES))}) of one name were expected. "
                f"{causes}".strip()
            )
        problems += assumption(self.root, self.refs, self.settings)
        self._log = ProblemLog(problems)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a path is, or directly holds, a picture or a series, or their folders.

        A folder of parts may hold pictures, too.
        """
        if path.is_file():
            return is_one_recording(path) or path.suffix.lower() in RAW_SUFFIXES
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
        sample = load_recorded(ref, self.settings, repairs)
        self._log.set_repairs(ref, repairs)
        return sample


def load_recorded(
    ref: RecordingRef,
    settings: RecorderSettings,
    repairs: list[str],
    *,
    segment: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> RecordingSample:
    """Read one recording whose series is any recorder's file.

    Args:
        ref: with the files ``image`` and ``series``, or one of them.
        settings: of the recorder.
        repairs: gets sentences on what was assumed.
        segment: minimum number of values of the series; None for a mains cycle.
        image_size: (height, width) to which a picture is resized; None keeps it.
    """
    image, file = ref.files.get("image"), ref.files.get("series")
    picture = None if image is None else read_pattern(image, repairs, image_size)
    if file is None:
        return sample_from_ref(ref, image=picture, series=None)
    recorded = read_recorder_file(file, settings)
    if recorded.assumed:  # rates and severity rest on it, so that each diagnosis says it
        repairs.append(
            f"{file.name} does not name its recorder: {recorded.frequency:g} Hz and {CYCLE} values "
            "a cycle are assumed."
        )
    repairs += recorded.remarks
    facts = replace(ref, frequency=recorded.frequency, samples_per_cycle=recorded.samples_per_cycle)
    sample = sample_from_ref(
        facts,
        image=recorded.image if picture is None else picture,
        series=recorded.series,
        segment=segment,
    )
    return replace(sample, pulses=recorded.pulses, system=recorded.system)


def holds_pairs(root: Path) -> bool:
    """Return whether there is ``image/`` or ``series/``, or a picture and a series of one name."""
    if (root / "image").is_dir() or (root / "series").is_dir():
        return True
    stems: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in root.iterdir():
        role = _role(path)
        if role:
            stems[path.stem][role] = path
    pairs = (files["series"] for files in stems.values() if len(files) == 2)
    first = next(pairs, None)
    # What shares its name with a picture may as well be heights, depth or points of a part.
    return first is not None and plainly_series(first)


def holds_series(root: Path) -> bool:
    """Return whether a folder directly holds a recorder's settings, or what is plainly a series.

    Tables and arrays may as well be heights, depth or points of a part.
    """
    for path in root.iterdir():
        if path.name == SETTINGS_FILE:
            return True
        if path.name.startswith(".") or not path.is_file() or _role(path) != "series":
            continue
        if is_one_recording(path):
            return plainly_series(path)
    return False


def plainly_series(path: Path) -> bool:
    """Return whether a file can be nothing else than a recording of discharges."""
    if path.suffix.lower() == ".npy":
        try:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (OSError, ValueError):
            return False
        # Maps have more rows, and less columns for each.
        flat = len(shape) == 2 and (shape[0] <= 16 or 100 * shape[0] < shape[1])
        return flat or len(shape) == 1
    if path.suffix.lower() in (".npz", ".mat") or not is_one_recording(path):
        return False
    head = _head_of(path)
    if head.lstrip()[:1] == b"<" or monitor_files(path):
        return True
    try:
        table = read_instrument_table(head, str(path))
    except DataError:
        return False
    columns = table.values.shape[1]
    if columns <= 4 and table.names:
        roles = {role_of(name) for name in table.names}
        return bool({"phase", "time"} & roles) and "amplitude" in roles
    if columns <= 2:
        return True
    counts = np.nan_to_num(table.values)
    whole = bool((counts == np.rint(counts)).all() and (counts >= 0).all())
    return whole and (columns % CYCLE == 0 or float((counts == 0).mean()) >= 0.5)


def _head_of(path: Path) -> bytes:
    """Return the first whole lines of a text, at least one."""
    with path.open("rb") as stream:
        head = stream.read(_LOOKED_INTO).removeprefix(b"\xef\xbb\xbf")
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return head.decode("utf-16", errors="replace").encode()
        # A line may be longer than all before it: lists of an XML, a channel in one row.
        return head + stream.readline()


def assumption(
    root: Path, refs: Sequence[RecordingRef], settings: RecorderSettings
) -> list[Problem]:
    """Return a problem that says what is assumed of series whose recorder nobody described."""
    if settings.is_described or not any("series" in ref.files for ref in refs):
        return []
    sentence = (
        f"{root} does not name the recorder: where a file does not either, {settings.frequency:g} "
        f"Hz and {CYCLE} values a cycle are assumed. Write others into recorder.yaml beside the "
        "files (frequency: 50, sample_rate: 1e6), into a table, or give --recorder frequency=50."
    )
    return [Problem(str(root), sentence, left_out=False)]


def is_one_recording(path: Path) -> bool:
    """Whether a file is a picture or a series, not a table of files or results, nor a text."""
    if path.suffix.lower() not in _TEXT:
        return bool(_role(path))
    head = _head_of(path)
    if head.lstrip()[:1] == b"<":
        # What an instrument calls its lists; an XML for programs or people has none of them.
        return b"</" in head and _XML_LIST.search(head) is not None
    # Numbers in most of the lines, or in few long ones: a header may stand before them.
    lines = [line for line in head.split(b"\n") if line.strip()]
    numeric = [line for line in lines if _DIGIT.search(line) and not line.translate(None, _NUMERIC)]
    mostly = 2 * len(numeric) > len(lines) or 2 * sum(map(len, numeric)) > sum(map(len, lines))
    return mostly or (bool(lines) and _names_a_signal(head))


def _names_a_signal(head: bytes) -> bool:
    """Return whether a text is a table with a time or phase and an amplitude, beside texts."""
    try:
        table = read_instrument_table(head, "")
    except DataError:
        return False
    roles = {role_of(name) for name in table.names}
    files = {"image", "series", "rgb", "xyz", "depth"} & {n.strip().lower() for n in table.names}
    return not files and bool({"time", "phase"} & roles) and "amplitude" in roles


def recordings_below(
    root: Path, problems: list[Problem], settings: RecorderSettings
) -> Iterator[RecordingRef]:
    """Find the recordings in a folder and in those below it, in the order of their names."""
    paths_by_role: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            role = _role(path)
            if role and not name.startswith(".") and not _follows(path):
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
            yield _recording(files, settings)


def _roles(paths: list[Path]) -> dict[str, Path]:
    """Return the files by role; ``DataError`` if one has no role, or two have the same."""
    files: dict[str, Path] = {}
    for path in paths:
        role = "series" if path.suffix.lower() in RAW_SUFFIXES else _role(path)
        if not role or role in files:
            raise DataError(
                f"{path} is no {'picture or series' if not role else f'partner of {files[role]}'}: "
                "a recording is a picture, a series (such as .csv, .npy, .mat), or one of each."
            )
        files[role] = path
    return files


def _recording(files: dict[str, Path], settings: RecorderSettings) -> RecordingRef:
    return RecordingRef(
        source=str(files.get("image") or files["series"]),
        files=files,
        frequency=settings.frequency,
        samples_per_cycle=settings.samples_per_cycle or CYCLE,
        extra={} if settings == RecorderSettings() else {RECORDER: repr(settings)},
    )


def _follows(path: Path) -> bool:
    """Return whether a file belongs to a monitor's recording that another file stands for."""
    files = monitor_files(path)
    return bool(files) and path != files["A"]


def _role(path: Path) -> str:
    """Return ``"image"``, ``"series"`` or ``""`` by the file's suffix."""
    suffix = path.suffix.lower()
    if suffix in RGB_SUFFIXES:
        return "image"
    # Bare numbers mean nothing before their type is known; what ends with .bin may be anything.
    known = suffix in RECORDER_SUFFIXES or (
        suffix in RAW_SUFFIXES and (path.parent / SETTINGS_FILE).is_file()
    )
    return "series" if known else ""
