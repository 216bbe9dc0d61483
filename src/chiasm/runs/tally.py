"""What a prediction counts: enough for its summary, of one size whatever the number of inputs."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from chiasm.runs.console import MAX_LISTED, say

MOST_NOTES = 200  # kinds of notes that are counted apart
OTHER_NOTES = "a note of another kind"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input.

    Attributes:
        row: of the table of results.
        kinds: what it counts as in the summary, e.g. ``("defective",)``.
        notes: remarks of the model, which are counted.
        remarks: of the reader, of which the first are printed.
        failure: why it has no result; "" if it has one.
        line: the result in words, for few inputs.
        picture: PNG of the heat map; None without.
    """

    row: Mapping[str, Any]
    kinds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    failure: str = ""
    line: str = ""
    picture: bytes | None = None


Placed = list[tuple[int, str]]  # a text with the position of its input


@dataclass
class Tally:
    """Counts of outcomes, and the first texts of each sort in the order of the inputs.

    Attributes:
        inputs, failed: numbers of inputs, and of those without a result.
        kinds, notes: number of inputs by what they count as, and by the model's note.
        remarks, failures, lines: the first ``MAX_LISTED`` with the positions of their inputs.
    """

    inputs: int = 0
    failed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    remarks: Placed = field(default_factory=list)
    failures: Placed = field(default_factory=list)
    lines: Placed = field(default_factory=list)

    @property
    def succeeded(self) -> int:
        """Number of inputs with a result."""
        return self.inputs - self.failed

    def add(self, outcome: Outcome, position: int) -> None:
        """Count the outcome of the input at a position."""
        self.inputs += 1
        self.failed += bool(outcome.failure)
        self.kinds.update(outcome.kinds)
        for note in outcome.notes:
            self._note(note, 1)
        self.remarks = _first(self.remarks, [(position, text) for text in outcome.remarks])
        if outcome.failure:
            self.failures = _first(self.failures, [(position, outcome.failure)])
        if outcome.line:
            self.lines = _first(self.lines, [(position, outcome.line)])

    def merge(self, other: Tally) -> None:
        """Add the counts of other inputs."""
        self.inputs += other.inputs
        self.failed += other.failed
        self.kinds.update(other.kinds)
        for note, count in other.notes.items():
            self._note(note, count)
        for name in ("remarks", "failures", "lines"):
            setattr(self, name, _first(getattr(self, name), getattr(other, name)))

    def say_lines(self) -> None:
        """Print each result, if they are few."""
        for _, line in self.lines if self.inputs <= MAX_LISTED else ():
            say(line)

    def say_remarks(self) -> None:
        """Print the first remarks of the reader."""
        for remark in dict.fromkeys(text for _, text in self.remarks):
            say(remark)

    def say_notes(self, noun: str) -> None:
        """Print each note, the most frequent first; ``noun`` names the inputs."""
        # The order of the inputs is lost where shards end in any order.
        for note, count in sorted(self.notes.items(), key=lambda item: (-item[1], item[0])):
            say(f"{count} of {self.inputs} {noun}: {note}")

    def to_json(self) -> str:
        """Return the counts as JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the counts that ``to_json`` wrote; ``ValueError`` if it did not."""
        try:
            content = json.loads(text)
            for name in ("kinds", "notes"):
                content[name] = Counter(content[name])
            for name in ("remarks", "failures", "lines"):
                content[name] = [(int(position), str(line)) for position, line in content[name]]
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no counts of a prediction: {error}") from error

    def _note(self, note: str, count: int) -> None:
        known = note in self.notes or len(self.notes) < MOST_NOTES
        self.notes[note if known else OTHER_NOTES] += count


def _first(one: Placed, other: Placed) -> Placed:
    return heapq.nsmallest(MAX_LISTED, [*one, *other], key=lambda placed: placed[0])
