"""What a conversion of parts has done so far: a line for each part that is complete."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError

OPTIONS, DONE, LOCK = "conversion.json", "conversion.jsonl", "conversion.lock"


@dataclass(frozen=True, slots=True)
class Done:
    """A part that is complete.

    Attributes:
        source: path of its main file at the origin.
        stamp: sizes and dates of its files there.
        place: ``split/kind`` to which it was written.
        stem: name of its files there, a number.
    """

    source: str
    stamp: str
    place: str
    stem: str


class ConversionLog:
    """The log of a destination; holds a line for each part, in memory and in a file.

    A line that a killed process left incomplete is removed.

    Args:
        folder: the destination, which is new, empty or of an earlier conversion.
        options: of the conversion, JSON values; they must be those of the earlier one.

    Raises:
        DataError: the earlier conversion had other options.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.done: dict[str, Done] = {}
        if (folder / OPTIONS).is_file():
            self._check(options)
            self._read()
        else:
            draft = folder / f"{OPTIONS}.draft"
            draft.write_text(json.dumps(options, indent=2), encoding="utf-8")
            draft.replace(folder / OPTIONS)
        self._stream = (folder / DONE).open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(self, done: Done) -> None:
        """Note that the files of a part are complete."""
        facts = [done.source, done.stamp, done.place, done.stem]
        self._stream.write(json.dumps(facts).encode() + b"\n")
        self._stream.flush()
        self.done[done.source] = done

    def stems(self, parts: Sequence[tuple[str, str]]) -> list[str]:
        """Return the number of each part: that which it has, or the lowest free one of its place.

        A listing that stays the same gives the same numbers, whatever was complete before.

        Args:
            parts: source and place, all that are listed.

        Raises:
            DataError: a part that is complete is not listed any more.
        """
        listed = {source for source, _ in parts}
        gone = [source for source in self.done if source not in listed]
        if gone:
            raise DataError(
                f"{len(gone)} parts that were converted to {self.folder} are not listed any more, "
                f"such as {gone[0]}. Bring them back, or name a new folder."
            )
        kept: dict[str, set[int]] = {}
        for done in self.done.values():
            kept.setdefault(done.place, set()).add(int(done.stem))
        # Of one width, so that the order of names is that of numbers.
        widths = {p: max(3, len(str(n - 1))) for p, n in Counter(p for _, p in parts).items()}
        free: dict[str, int] = {}
        stems = []
        for source, place in parts:
            earlier = self.done.get(source)
            if earlier is not None and earlier.place == place:
                stems.append(earlier.stem)
                continue
            number = free.get(place, 0)
            while number in kept.get(place, ()):
                number += 1
            free[place] = number + 1
            stems.append(f"{number:0{widths[place]}d}")
        return stems

    def give_up(self) -> None:
        """Forget a conversion that has written nothing, and remove its folder if it is empty."""
        if all(path.name in _OWN for path in self.folder.iterdir()):
            for name in _OWN:
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def _check(self, options: Mapping[str, Any]) -> None:
        try:
            earlier = json.loads((self.folder / OPTIONS).read_text(encoding="utf-8"))
        except ValueError as cause:
            raise DataError(
                f"{self.folder / OPTIONS} is damaged ({cause}); name a new folder."
            ) from cause
        differing = [name for name in options if earlier.get(name) != options[name]]
        if differing:
            name = differing[0]
            raise DataError(
                f"{self.folder} holds a conversion with another {name} ({earlier.get(name)!r}, now "
                f"{options[name]!r}); name a new folder so that nothing mixes."
            )

    def _read(self) -> None:
        path = self.folder / DONE
        content = path.read_bytes() if path.exists() else b""
        complete = 0
        for line in content.splitlines(keepends=True):
            try:
                if not line.endswith(b"\n"):
                    break
                done = Done(*json.loads(line))
            except (ValueError, TypeError):
                break
            self.done[done.source] = done
            complete += len(line)
        if complete < len(content):
            os.truncate(path, complete)


def check_destination(folder: Path) -> None:
    """Raise ``DataError`` for a path that holds something else than a conversion."""
    if folder.is_dir():
        if (folder / OPTIONS).is_file() or all(path.name in _OWN for path in folder.iterdir()):
            return
    elif not folder.exists():
        return
    raise DataError(f"{folder} is not empty; name a new folder so that nothing mixes.")


_OWN = (OPTIONS, f"{OPTIONS}.draft", DONE, LOCK)


def stamp_of(ref: SampleRef) -> str:
    """Return sizes and dates of a part's files; "" of one that is missing."""
    stamps = []
    for role, path in sorted(ref.files.items()):
        try:
            stat = Path(path).stat()
        except OSError:
            continue  # loading reports the fault of the file
        stamps.append(f"{role}:{stat.st_size}:{stat.st_mtime_ns}")
    return " ".join(stamps)
