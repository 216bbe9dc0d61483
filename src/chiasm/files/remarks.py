"""Count what was assumed about files, so that a thousand equal remarks are one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"\d+([.,]\d+)*")


class Remarks:
    """Remarks of many parts; those that differ in their numbers alone are counted together.

    Example:
        >>> remarks = Remarks()
        >>> for lost in (3, 5):
        ...     remarks.add([f"{lost} points were lost.", "The unit is mm."])
        >>> remarks.add(["The unit is mm."])
        >>> remarks.counted()
        (('The unit is mm.', 3), ('3 points were lost.', 2))
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def add(self, sentences: Iterable[str], parts: int = 1) -> None:
        """Count the remarks of one part, or of several that have the same."""
        for sentence in sentences:
            alike = _NUMBER.sub("#", sentence)
            self._first.setdefault(alike, sentence)
            self._counts[alike] = self._counts.get(alike, 0) + parts

    def counted(self) -> tuple[tuple[str, int], ...]:
        """Return the first of the remarks that are alike, and their number; most frequent first."""
        order = sorted(self._counts, key=lambda alike: -self._counts[alike])
        return tuple((self._first[alike], self._counts[alike]) for alike in order)

    def in_words(self) -> list[str]:
        """Return a sentence for each kind of remark, with the number of parts."""
        return [
            f"{sentence} (in {count} part{'s' if count > 1 else ''})"
            for sentence, count in self.counted()
        ]
