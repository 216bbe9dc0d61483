"""What a conversion of parts has done so far: a line for each part that is complete."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError

OPTIONS, DONE, ORIGINS = "conversion.json", "conversion.jsonl", "origin.csv"


@dataclass(frozen=True, slots=True)
class Done:
    """A part that is complete.

    Attributes:
        source: path of its main file at the origin.
        stamp: sizes and dates of its files there.
        place: ``split/kind`` to which it was written.
        number: in that folder.
    """

    source: str
    stamp: str
    place: str
    number: int


class ConversionLog:
    """The log of a destination; holds a line for each part, in memory and in a file.

    A line that a killed process left incomplete is removed.

    Args:
        folder: the destination, which is new, empty or of an earlier conversion.
        options: of the conversion, JSON values; they must be those of the earlier one.

    Raises:
        DataError: the folder holds something else.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.done: dict[str, Done] = {}
        if (folder / OPTIONS).is_file():
            self._check(options)
            self._read()
        elif any(name.name not in _OWN for name in folder.iterdir()):
            raise DataError(f"{folder} is not empty; name a new folder so that nothing mixes.")
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
        facts = [done.source, done.stamp, done.place, done.number]
        self._stream.write(json.dumps(facts).encode() + b"\n")
        self._stream.flush()
        self.done[done.source] = done

    def numbers(self, parts: Sequence[tuple[str, str]]) -> list[int]:
        """Return the number of each part: the one that it has, or the lowest free one of its place.

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
            kept.setdefault(done.place, set()).add(done.number)
        free: dict[str, int] = {}
        numbers = []
        for source, place in parts:
            earlier = self.done.get(source)
            if earlier is not None and earlier.place == place:
                numbers.append(earlier.number)
                continue
            number = free.get(place, 0)
            while number in kept.get(place, ()):
                number += 1
            free[place] = number + 1
            numbers.append(number)
        return numbers

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


_OWN = (OPTIONS, f"{OPTIONS}.draft", DONE, "conversion.lock")


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
