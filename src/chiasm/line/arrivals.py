"""Parts that appear in a folder, each once all of its files are there and nobody writes them.

The folder is listed at every look: file systems of a network report no changes.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from chiasm.detection.sensors.point_clouds import CLOUD_SUFFIXES
from chiasm.line.pairing import Needs, is_temporary, part_name, role_of

_HEAD = 4096  # bytes that hold the header of a point cloud
_TAIL = 65_536  # bytes that are zero at the end of a file whose size was reserved
_RESERVED_S = 5.0  # for which such a file may still be in the making
MARK = ".verdict.json"  # of a judged part that stays
Signature = tuple[int, int, int, int]  # size, times of change of content and of the file, inode
_Identity = frozenset[tuple[Path, Signature]]


@dataclass(frozen=True, slots=True)
class ArrivedFile:
    """A file of a part.

    Attributes:
        path: of the file.
        role: ``rgb``, ``xyz``, ``depth``, ``image`` or ``series``.
        size: in bytes.
        mtime_ns: time of its last change.
    """

    path: Path
    role: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A part whose files are complete, or will not become so.

    Attributes:
        name: of the part.
        files: sorted by role.
        age_s: seconds for which no file of it changed.
        problem: why it cannot be judged, or "".
    """

    name: str
    files: tuple[ArrivedFile, ...]
    age_s: float
    problem: str = ""

    @property
    def stamp(self) -> str:
        """Sizes and times of change of its files, as text."""
        return ";".join(f"{file.size}:{file.mtime_ns}" for file in self.files)

    def by_role(self) -> dict[str, Path]:
        """Return its files by role."""
        return {file.role: file.path for file in self.files}


@dataclass(slots=True)
class _Seen:
    signature: Signature
    since: float
    role: str
    name: str  # of its part


@dataclass(eq=False)
class Arrivals:
    """What appears in a folder.

    Args:
        folder: that is watched, with all folders in it.
        needs: of the model.
        settle_s: seconds for which a file must not change.
        patience_s: seconds after which a part that lacks a file is given up.
        skipped: folders that are not looked into.
        ignore: patterns of names, or of paths below the folder, that are not read.
        clock: monotonic seconds.
    """

    folder: Path
    needs: Needs
    settle_s: float = 1.0
    patience_s: float = 30.0
    skipped: tuple[Path, ...] = ()
    ignore: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    ignored: set[str] = field(default_factory=set)  # suffixes of files that are not read
    restless: tuple[str, ...] = ()  # parts that are changed for longer than ``patience_s``
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _settled: dict[str, _Identity] = field(default_factory=dict)
    _present: dict[str, _Identity] = field(default_factory=dict)
    _unsettled: dict[str, float] = field(default_factory=dict)  # since when

    def look(self) -> list[Arrival]:
        """List the folder once; return the parts that are ready, in the order of their arrival.

        A part is returned at every look until it is ``settle``d or changes.

        Raises:
            OSError: the folder cannot be listed.
        """
        now = self.clock()
        parts: dict[str, list[tuple[Path, str, Signature]]] = defaultdict(list)
        seen: dict[Path, _Seen] = {}
        for path, signature in self._files():
            before = self._seen.get(path)
            if before is not None:
                role, name = before.role, before.name
            else:
                relative = path.relative_to(self.folder)
                role, name = role_of(relative, self.needs), part_name(relative)
            if not role:
                # Another program's settings, which the judge reads.
                if not path.name.endswith(MARK) and path.name != "recorder.yaml":
                    self.ignored.add(path.suffix.lower() or path.name)
                continue
            if before is None or before.signature != signature:
                before = _Seen(signature, now, role, name)
            seen[path] = before
            parts[name].append((path, role, signature))
        self._seen = seen
        self._present = {name: _identity(files) for name, files in parts.items()}
        self._settled = {n: files for n, files in self._settled.items() if n in parts}
        self._unsettled = {
            name: self._unsettled.get(name, now)
            for name, files in self._present.items()
            if self._settled.get(name) != files
        }
        ready = []
        for name, files in parts.items():
            if self._settled.get(name) == self._present[name]:
                continue
            arrival = self._arrival(name, files, now)
            if arrival is not None:
                ready.append(arrival)
        known = {arrival.name for arrival in ready}
        self.restless = tuple(
            name
            for name, since in self._unsettled.items()
            if now - since > self.patience_s
            and name not in known
            and now - max(self._seen[path].since for path, _, _ in parts[name]) < self.settle_s
        )
        return sorted(ready, key=lambda a: (max(file.mtime_ns for file in a.files), a.name))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts at the last look, complete or not."""
        return tuple(self._present)

    @property
    def waiting(self) -> int:
        """Number of parts at the last look that are not settled."""
        return sum(self._settled.get(n) != files for n, files in self._present.items())

    def skip_present(self) -> int:
        """Settle all that is in the folder now; return the number of parts."""
        self.look()
        self._settled = dict(self._present)
        return len(self._present)

    def settle(self, arrival: Arrival) -> None:
        """Return a part no more, unless one of its files changes."""
        files = [
            (file.path, file.role, self._seen[file.path].signature)
            for file in arrival.files
            if file.path in self._seen
        ]
        self._settled[arrival.name] = _identity(files)

    def _arrival(
        self, name: str, files: list[tuple[Path, str, Signature]], now: float
    ) -> Arrival | None:
        age = now - max(self._seen[path].since for path, _, _ in files)
        if age < self.settle_s:
            return None
        arrived = tuple(
            ArrivedFile(path, role, signature[0], signature[1])
            for path, role, signature in sorted(files, key=lambda f: (f[1], f[0]))
        )
        empty = [str(file.path) for file in arrived if file.size == 0]
        roles = [file.role for file in arrived]
        doubled = next((role for role in roles if roles.count(role) > 1), "")
        coloured = ["rgb"] if any(map(has_colours, arrived)) else []
        missing = self.needs.missing([*roles, *coloured])
        if not (empty or doubled or missing):
            # Copies to a share reserve the size first, and some shares tell the time of a change
            # seconds late.
            if age < _RESERVED_S and any(map(ends_in_zeros, arrived)):
                return None
            return Arrival(name, arrived, age)
        if age < self.patience_s:
            return None
        if doubled:
            paths = " and ".join(str(file.path) for file in arrived if file.role == doubled)
            problem = f"{paths} are both the {doubled} file of {name}; keep one of them."
        elif missing and self.needs.one_is_enough and not empty:
            problem = ""
        elif missing:
            problem = (
                f"{name} has {' and '.join(str(file.path) for file in arrived)} alone; "
                f"{' and '.join(missing)} did not arrive within {self.patience_s:g} s. Write all "
                "files of a part, with the same name, or give more time (--patience)."
            )
        else:
            problem = f"{empty[0]} is empty (0 bytes) for {age:.0f} s; write the part again."
        return Arrival(name, arrived, age, problem)

    def _is_ignored(self, path: Path) -> bool:
        names = (path.name, path.relative_to(self.folder).as_posix())
        return any(fnmatch(name, pattern) for name in names for pattern in self.ignore)

    def _files(self) -> Iterator[tuple[Path, Signature]]:
        folders = [self.folder]
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:
                if folder == self.folder:
                    raise
                continue  # removed since its parent was listed
            for entry in entries:
                if is_temporary(entry.name):
                    continue
                path = Path(entry.path)
                if self.ignore and self._is_ignored(path):
                    continue
                try:
                    if entry.is_symlink() and entry.is_dir():
                        continue  # which may lead back here
                    if entry.is_dir():
                        if path not in self.skipped:
                            folders.append(path)
                        continue
                    # Not of the entry: Windows and some shares give what the folder knows of it.
                    status = path.stat()
                except OSError:  # it was renamed meanwhile
                    continue
                yield (
                    path,
                    (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
                )


def ends_in_zeros(file: ArrivedFile) -> bool:
    """Tell whether the last bytes of a large file are zero, as of one that is not written yet."""
    if file.size <= _TAIL:
        return False
    try:
        with file.path.open("rb") as stream:
            stream.seek(-_TAIL, os.SEEK_END)
            return not any(stream.read(_TAIL))
    except OSError:
        return False


def has_colours(file: ArrivedFile) -> bool:
    """Tell whether a file is a point cloud whose header names colours."""
    if file.path.suffix.lower() not in CLOUD_SUFFIXES:
        return False
    try:
        with file.path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    return re.search(rb"property \w+ (?:diffuse_)?red\b|FIELDS .*\brgba?\b", head) is not None


def _identity(
    files: list[tuple[Path, str, Signature]],
) -> _Identity:
    return frozenset((path, signature) for path, _, signature in files)
