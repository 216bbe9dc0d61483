"""What an architecture costs: the sum of its pieces, each measured once on a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from chiasm.errors import DataError
from chiasm.fusion.genotype import Genotype

BASE = "base"  # what every architecture needs: input, head, score and decision


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one part, and megabytes of 10^6 bytes of weights and memories."""

    milliseconds: float
    megabytes: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.milliseconds + other.milliseconds, self.megabytes + other.megabytes)


@dataclass(frozen=True, slots=True)
class PieceCosts:
    """Costs of the pieces that architectures are made of.

    Attributes:
        pieces: by name, see ``pieces_of``.
        units: of evidence that a set of maps needs, by name; each is computed once.
        facts: machine, runtime, threads and the like, for people.
    """

    pieces: Mapping[str, Cost]
    units: Callable[[frozenset[str]], Iterable[str]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, genotype: Genotype, *, maps: Iterable[str]) -> Cost:
        """Return the cost of an architecture.

        Args:
            genotype: the architecture.
            maps: that it reads.

        Raises:
            DataError: a piece was not measured.
        """
        names = [BASE, *self.units(frozenset(maps)), *pieces_of(genotype)]
        missing = sorted({name for name in names if name not in self.pieces})
        if missing:
            raise DataError(f"The cost of {', '.join(missing)} was not measured.")
        return sum((self.pieces[name] for name in names), Cost(0.0, 0.0))

    def to_json(self) -> dict[str, Any]:
        """Return facts and pieces as JSON."""
        return {**self.facts, "pieces": {name: asdict(cost) for name, cost in self.pieces.items()}}


def pieces_of(genotype: Genotype) -> list[str]:
    """List the pieces of a fusion, without the evidence that it reads.

    A projection is ``project:MAP``; an operation ``operation:NAME``; the end of a cell with nodes
    ``output``; the convolution of a join is counted for each input, as ``join``.
    """
    names = []
    for name in genotype.reachable():
        cell = genotype.cells[name]
        names += [
            f"project:{chosen}"
            for chosen in dict.fromkeys(cell.inputs)
            if not chosen.startswith("cell:")
        ]
        names += [f"operation:{node.operation}" for node in cell.nodes]
        names += ["join"] * len(cell.inputs) if cell.joins else ["output"]
    return names
