"""What the audits of both wings share: figures of many samples in little memory, lists as text."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from chiasm.errors import DataError

_MAX_ENTRIES = 10

Ref = TypeVar("Ref")
Sample = TypeVar("Sample")
# Name of a stage, number of its samples, and these; hands them on.
Watching = Callable[[str, int, Iterable[Any]], Iterable[Any]]


def unwatched_stage(stage: str, count: int, items: Iterable[Any]) -> Iterable[Any]:
    """Hand on the samples of a stage."""
    return items


def read(load: Callable[[Ref], Sample], ref: Ref) -> Sample:
    """Load a sample; raise ``DataError`` also for what the system has against its files."""
    try:
        return load(ref)
    except OSError as cause:
        raise DataError(f"{cause.filename or ref} cannot be read: {cause.strerror}.") from cause


@dataclass(frozen=True, slots=True)
class TrivialScore:
    """How well a property that is unrelated to faults separates the classes.

    Attributes:
        name: of the property, e.g. ``"mean brightness"``.
        auroc: in [0, 1], above 0.5 if faulty samples have larger values; 0.5 is no separation.
    """

    name: str
    auroc: float

    @property
    def strength(self) -> float:
        """AUROC of the better direction, in [0.5, 1]."""
        return max(self.auroc, 1 - self.auroc)


def listing(title: str, entries: Sequence[object]) -> list[str]:
    """Return a list as lines for a terminal: title, length and first entries."""
    if not entries:
        return [f"{title}: none"]
    more = [f"  ... and {len(entries) - _MAX_ENTRIES} more"] if len(entries) > _MAX_ENTRIES else []
    return [f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:_MAX_ENTRIES]), *more]


class Range:
    """Number, mean, smallest and largest of values, which are not kept."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self.smallest, self.largest = float("inf"), float("-inf")

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        self._sum += value
        self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)

    @property
    def mean(self) -> float:
        """Mean of the values; NaN without any."""
        return self._sum / self.count if self.count else float("nan")


class NumberTable:
    """Numbers of samples by name, eight bytes each.

    Example:
        >>> table = NumberTable()
        >>> table.add({"width": 3.0, "depth": 1.0})
        >>> table.add({"width": 4.0})
        >>> [(name, list(values)) for name, values in table.shared()]
        [('width', [3.0, 4.0])]
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: Mapping[str, float]) -> None:
        """Take in the numbers of a sample."""
        if not self._count:
            self._columns = {name: array("d") for name in row}
        # What one sample lacks is of no use, whatever the others have.
        self._columns = {name: values for name, values in self._columns.items() if name in row}
        for name, values in self._columns.items():
            values.append(row[name])
        self._count += 1

    def shared(self) -> Iterator[tuple[str, array[float]]]:
        """Yield the numbers that all samples have, in the order of the first one's."""
        yield from self._columns.items()
