"""The searched architecture as a readable file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chiasm.errors import GenotypeError
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import CELLS, Pools, cell_output

SCHEMA = "chiasm.genotype"
VERSIONS = (1, 2)  # 2 has cells that join any number of features


@dataclass(frozen=True, slots=True)
class NodeGenotype:
    """One intermediate node: two inputs (``"x"``, ``"y"``, ``"node:0"`` ...) and an operation."""

    inputs: tuple[str, str]
    operation: str


@dataclass(frozen=True, slots=True)
class CellGenotype:
    """One cell: two inputs, chosen from its pool, and its nodes.

    A cell without nodes joins: it concatenates any number of features of all pools and of earlier
    cells' outputs, as a fusion made by hand does.
    """

    inputs: tuple[str, ...]
    nodes: tuple[NodeGenotype, ...]

    @property
    def joins(self) -> bool:
        """Whether the cell concatenates its inputs."""
        return not self.nodes


@dataclass(frozen=True, slots=True)
class Genotype:
    """A discrete two-level fusion architecture.

    Attributes:
        cells: present cells by name (``early``, ``middle``, ``late``).
        output: the cell that feeds the head.
        pools: names of the candidates each cell could choose from.
        provenance: seed, data and score of the search, for people.
    """

    cells: Mapping[str, CellGenotype]
    output: str
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.output not in self.cells:
            raise GenotypeError(f"The output cell {self.output!r} is not among the cells.")
        for name, cell in self.cells.items():
            if name not in CELLS:
                raise GenotypeError(f"There is no cell {name!r}; there are: {', '.join(CELLS)}.")
            count = len(cell.inputs)
            if len(set(cell.inputs)) < count if cell.joins else count != 2:
                raise GenotypeError(
                    f"The {name} cell takes {', '.join(cell.inputs) or 'nothing'}; a cell with "
                    "nodes takes two inputs, one without nodes joins different ones."
                )
            if not count:
                raise GenotypeError(f"The {name} cell has no input.")
            earlier = {cell_output(c) for c in CELLS[: CELLS.index(name)] if c in self.cells}
            for chosen in cell.inputs:
                if chosen.startswith("cell:") and chosen not in earlier:
                    raise GenotypeError(
                        f"The {name} cell takes {chosen!r}, which does not come before it."
                    )
            for number, node in enumerate(cell.nodes):
                allowed = {"x", "y", *(f"node:{i}" for i in range(number))}
                invalid = [i for i in node.inputs if i not in allowed]
                if invalid:
                    raise GenotypeError(
                        f"Node {number} of the {name} cell takes {invalid[0]!r}; it may take "
                        f"{', '.join(sorted(allowed))}."
                    )
                if node.operation not in OPERATIONS:
                    raise GenotypeError(
                        f"Node {number} of the {name} cell uses the unknown operation "
                        f"{node.operation!r}; there are: {', '.join(OPERATIONS)}."
                    )

    def validate(self, pools: Pools) -> None:
        """Raise ``GenotypeError`` if an input is not in the cell's pool."""
        for name, cell in self.cells.items():
            if name not in pools.present:
                raise GenotypeError(
                    f"The genotype has a {name} cell, but the {name} pool is empty."
                )
            allowed = pools.joinable(name) if cell.joins else pools.candidates(name)
            for chosen in cell.inputs:
                if chosen not in allowed:
                    raise GenotypeError(
                        f"The {name} cell takes {chosen!r}, which is not in its pool: "
                        f"{', '.join(allowed)}."
                    )

    def reachable(self) -> tuple[str, ...]:
        """Return the cells whose output reaches the head, in order."""
        reached, pending = set(), [self.output]
        while pending:
            name = pending.pop()
            reached.add(name)
            pending += [i[5:] for i in self.cells[name].inputs if i.startswith("cell:")]
        return tuple(c for c in CELLS if c in reached)

    def pruned(self) -> Genotype:
        """Return the architecture without cells that do not reach the head."""
        return replace(self, cells={name: self.cells[name] for name in self.reachable()})

    @property
    def required(self) -> frozenset[str]:
        """Features that reach the head."""
        return frozenset(
            chosen
            for name in self.reachable()
            for chosen in self.cells[name].inputs
            if not chosen.startswith("cell:")
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the architecture as mappings, lists, texts and numbers: the content of a file.

        The schema is ``genotype.schema.json`` of the reference; ``from_dict`` reads it back.

        Example:
            >>> cell = CellGenotype(("rgb/f8", "geometry/f8"), ())
            >>> content = Genotype({"late": cell}, "late").to_dict()
            >>> content["cells"]
            {'late': {'inputs': ['rgb/f8', 'geometry/f8'], 'nodes': []}}
            >>> Genotype.from_dict(content).to_dict() == content
            True
        """
        return {
            "schema": SCHEMA,
            "version": 2 if any(cell.joins for cell in self.cells.values()) else 1,
            "output": self.output,
            "cells": {
                name: {
                    "inputs": list(cell.inputs),
                    "nodes": [
                        {"inputs": list(n.inputs), "operation": n.operation} for n in cell.nodes
                    ],
                }
                for name, cell in self.cells.items()
            },
            "pools": {name: list(pool) for name, pool in self.pools.items()},
            "provenance": copy.deepcopy(dict(self.provenance)),
        }

    def to_json(self) -> str:
        """Serialise as the text of a file."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str, *, where: str = "the genotype") -> Genotype:
        """Parse the text of a file; ``GenotypeError`` names the fault and its place."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise GenotypeError(
                f"{where} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
            ) from error
        return cls.from_dict(data, where=where)

    @classmethod
    def from_dict(cls, data: Any, *, where: str = "the genotype") -> Genotype:
        """Make an architecture from the content of a file, see ``to_dict``; it is not changed.

        Args:
            data: mappings, sequences, texts and numbers.
            where: what a message calls it.

        Raises:
            GenotypeError: a field is missing, misspelt or of another version, or an architecture
                is not possible.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            raise GenotypeError(f'{where} is not a genotype: its "schema" is not "{SCHEMA}".')
        if data.get("version") not in VERSIONS:
            raise GenotypeError(
                f"{where} has version {data.get('version')!r}; this software reads versions "
                f"{' and '.join(map(str, VERSIONS))}. Search again, or use the software that wrote "
                "it."
            )
        try:
            cells = {
                name: CellGenotype(
                    _names(cell["inputs"]),
                    tuple(NodeGenotype(_pair(n["inputs"]), n["operation"]) for n in cell["nodes"]),
                )
                for name, cell in data["cells"].items()
            }
            if data["version"] == 1 and any(cell.joins for cell in cells.values()):
                raise ValueError("a cell without nodes, which version 1 does not know")
            return cls(
                cells=cells,
                output=data["output"],
                pools={str(k): _names(v) for k, v in data.get("pools", {}).items()},
                provenance=copy.deepcopy(dict(data.get("provenance", {}))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise GenotypeError(f"{where} lacks or misspells a field: {error!r}.") from error

    def save(self, path: str | Path) -> None:
        """Write the file."""
        Path(path).write_text(self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Genotype:
        """Read a file; ``GenotypeError`` if it cannot be read."""
        try:
            text = Path(path).read_text()
        except OSError as error:
            raise GenotypeError(f"The genotype {path} cannot be read: {error.strerror}.") from error
        return cls.from_json(text, where=str(path))

    def summary(self) -> str:
        """Describe in a few lines which features are fused by which operations."""
        lines = []
        for name in self.reachable():
            cell = self.cells[name]
            if cell.joins:
                lines.append(f"{name} cell: joins {', '.join(cell.inputs)}")
                continue
            x, y = cell.inputs
            lines.append(f"{name} cell: x = {x}, y = {y}")
            for number, node in enumerate(cell.nodes):
                lines.append(f"  node {number}: {node.operation}({', '.join(node.inputs)})")
        unused = [c for c in self.cells if c not in self.reachable()]
        if unused:
            lines.append(f"not used by the output: {', '.join(unused)}")
        lines.append(f"the {self.output} cell feeds the head")
        return "\n".join(lines)


def random_genotype(
    pools: Pools, *, nodes: int = 2, seed: int = 0, operations: Sequence[str] = tuple(OPERATIONS)
) -> Genotype:
    """Draw inputs and operations uniformly: the baseline of every search."""
    rng = random.Random(seed)
    cells = {}
    for name in pools.present:
        allowed = pools.candidates(name)
        pair = rng.sample(allowed, 2) if len(allowed) > 1 else [allowed[0]] * 2
        drawn = []
        for number in range(nodes):
            inputs = ["x", "y", *(f"node:{i}" for i in range(number))]
            drawn.append(NodeGenotype(_pair(rng.sample(inputs, 2)), rng.choice(list(operations))))
        cells[name] = CellGenotype(_pair(pair), tuple(drawn))
    return Genotype(
        cells=cells,
        output=pools.present[-1],
        pools={name: pools.candidates(name) for name in pools.present},
        provenance={"random_seed": seed},
    )


def concatenation(pools: Pools) -> Genotype:
    """Return the hand-made fusion as a point of the space: one cell that joins every map.

    References:
        Chen et al., EasyNet, ACM MM 2023: layers of both modalities, concatenated.
    """
    name = pools.present[-1]
    return Genotype(
        cells={name: CellGenotype(tuple(pools.maps()), ())},
        output=name,
        pools={cell: pools.candidates(cell) for cell in pools.present},
    )


def _names(values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ValueError(f"{values!r} is one name, not a list of names")
    return tuple(map(str, values))


def _pair(values: Sequence[str]) -> tuple[str, str]:
    first, second = values
    return str(first), str(second)
