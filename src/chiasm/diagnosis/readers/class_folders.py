"""Reader of recorders' files that lie in a folder for each class of fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chiasm.diagnosis.readers.recording_folder import (
    assumption,
    holds_pairs,
    is_one_recording,
    load_recorded,
    recordings_below,
)
from chiasm.diagnosis.readers.source import KINDS, ProblemLog, RecordingRef
from chiasm.diagnosis.recorders.instruments import session_of
from chiasm.diagnosis.recorders.recorded import RECORDER_SUFFIXES
from chiasm.diagnosis.recorders.recorder_settings import recorder_settings
from chiasm.errors import DataError
from chiasm.files.readers import reader
from chiasm.files.words import RANGE_FOLDERS
from chiasm.samples import Problem, RecordingSample

# Folders of other layouts, which name no class.
_NO_CLASS = RANGE_FOLDERS | {"image", "series", "rgb", "train", "test", "validation"}


@reader("diagnosis", order=2)
class ClassFolders:
    """Recordings as ``CLASS/FILE`` or ``CLASS/SESSION/FILE``, of any recorder.

    The files are read as those of a ``RecordingFolder``. A folder below that of the class is a
    session; a detector's XML names its own. Other recordings have none: they can be divided by
    file alone (``split_by=random``), which flatters where several are of one object.

    Args:
        root: with a folder for each class.
        recorder: ``NAME=VALUE`` each, see ``recorder_settings``.

    Raises:
        DataError: there is no recording.
    """

    layout = "a folder with a folder of recordings for each class"

    def __init__(self, root: Path | str, *, recorder: Sequence[str] = ()) -> None:
        self.root = Path(root)
        self.settings = recorder_settings(self.root, recorder)
        problems: list[Problem] = []
        folders = _classes(self.root)
        names = {folder.name for folder in folders}
        order = KINDS if names <= set(KINDS) else sorted(names)
        self.kinds = tuple(order)
        refs: list[RecordingRef] = []
        for folder in folders:
            kind = folder.name
            for ref in recordings_below(folder, problems, self.settings):
                place = Path(ref.source).parent.relative_to(folder)
                session = str(place) if place.parts else session_of(Path(ref.source))
                refs.append(
                    replace(
                        ref,
                        label=self.kinds.index(kind),
                        kind=kind,
                        group={"session": session} if session else {},
                    )
                )
        if not refs:
            raise DataError(f"{self.root} holds no recording. {' '.join(map(str, problems[:3]))}")
        self.refs = tuple(refs)
        problems += assumption(self.root, refs, self.settings)
        self._log = ProblemLog(problems)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether each folder in a folder holds recordings, and no file beside them does."""
        if not path.is_dir() or holds_pairs(path):
            return False
        return bool(_classes(path))

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out or assumed so far."""
        return self._log.all()

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return what the last ``load`` of the recording assumed."""
        return self._log.repairs(ref)

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording; raises ``DataError`` that names the file and its fault."""
        repairs: list[str] = []
        sample = load_recorded(ref, self.settings, repairs)
        self._log.set_repairs(ref, repairs)
        return sample


def _classes(root: Path) -> list[Path]:
    """Return the folders of classes; none where one of the folders is no class."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if any(folder.name.lower() in _NO_CLASS or folder.name[:1] == "_" for folder in folders):
        return []
    first = [_first_series(folder) for folder in folders]
    # One that cannot be read is said later, by its name.
    if not all(first) or not any(is_one_recording(path) for path in first if path):
        return []
    return folders


def _first_series(folder: Path) -> Path | None:
    """Return the first file with a recorder's suffix, here or a folder deeper."""
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())[:3]]
    for place in places:
        for path in sorted(place.iterdir()):
            if path.suffix.lower() in RECORDER_SUFFIXES and path.is_file():
                return path
    return None
