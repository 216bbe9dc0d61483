"""What the audits of both wings share: figures of many samples in little memory, lists as text."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from chiasm.errors import DataError

_MAX_ENTRIES = 10
_LEAST_OF_STRATUM = 10

Ref = TypeVar("Ref")
Sample = TypeVar("Sample")
Level = Literal["wrong", "look", "know"]
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
        chance: that labels at random let the strongest of all properties separate as well; NaN
            where that was not computed.
    """

    name: str
    auroc: float
    chance: float = float("nan")

    @property
    def strength(self) -> float:
        """AUROC of the better direction, in [0.5, 1]."""
        return max(self.auroc, 1 - self.auroc)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it.

    Attributes:
        level: ``"wrong"`` what must be mended, ``"look"`` what should be looked at, ``"know"`` what
            is to be known.
        title: in a few words.
        sentence: what was found.
        remedy: what to do, as a sentence; "" where nothing is to be done.
        sources: samples that show it, the clearest first.
    """

    level: Level
    title: str
    sentence: str
    remedy: str = ""
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(filter(None, (self.sentence, self.remedy)))


def stratified(strata: Sequence[Hashable], count: int, *, seed: int = 0) -> list[int]:
    """Draw positions so that each stratum has its share of them, and a few at least.

    Args:
        strata: of each sample.
        count: to draw, about; all where there are no more.
        seed: of the draw.

    Returns:
        Positions, rising; the same for the same strata.

    Example:
        >>> len(stratified(["good"] * 900 + ["cut"] * 100, 100))
        100
    """
    if len(strata) <= count:
        return list(range(len(strata)))
    members: dict[Hashable, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(position)
    rng = np.random.default_rng(seed)
    drawn: list[int] = []
    least = min(_LEAST_OF_STRATUM, max(1, count // len(members)))
    for positions in members.values():
        share = round(count * len(positions) / len(strata))
        taken = min(len(positions), max(share, least))
        drawn += rng.choice(positions, taken, replace=False).tolist()
    return sorted(drawn)


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
