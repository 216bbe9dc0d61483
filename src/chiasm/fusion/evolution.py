"""Evolution of architectures: draws, mutations and crossings, judged by several figures at once.

References:
    Real et al., Regularized Evolution for Image Classifier Architecture Search, AAAI 2019; Deb et
    al., NSGA-II, 2002 (selection).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from chiasm.errors import ConfigurationError
from chiasm.fusion.costs import PieceCosts
from chiasm.fusion.finalists import DRAWS, reads
from chiasm.fusion.genotype import (
    CellGenotype,
    Genotype,
    NodeGenotype,
    concatenation,
    random_genotype,
)
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pareto import best_first
from chiasm.fusion.pools import Pools, cell_output

_JOINED = 0.8  # share of the draws whose last cell joins features, as a fusion made by hand does
_OTHER_KIND = (
    0.1  # share of the mutations of a last cell that make a join of nodes, or nodes of one
)
_EARLIER = 0.4  # share of the draws that have a certain earlier cell


@dataclass(frozen=True, slots=True)
class Judged:
    """An architecture with its figures; ``objectives`` are to be small."""

    genotype: Genotype
    figures: dict[str, float]
    objectives: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FusionSpace:
    """Architectures of cells with nodes, and of a last cell that joins features and earlier cells.

    Every architecture reads every sensor of the pools. The hand-made concatenation is one of them.

    Attributes:
        pools: the candidates.
        nodes: intermediate nodes per cell that has any.
        operations: names of the operations to choose from.
        groups: maps that share a source of evidence: a mutation drops or adds all of a group.
    """

    pools: Pools
    nodes: int = 2
    operations: Sequence[str] = tuple(OPERATIONS)
    groups: Sequence[frozenset[str]] = ()

    def draw(self, rng: random.Random) -> Genotype:
        """Draw an architecture; ``ConfigurationError`` where none reads every sensor."""
        for _ in range(DRAWS):
            genotype = self._finish(self._drawn(rng))
            if genotype is not None:
                return genotype
        raise ConfigurationError(
            f"Of {DRAWS} architectures, none reads every one of "
            f"{', '.join(sorted(self.pools.sensors))}. Give candidates of each of them to the "
            "cells, or fewer modalities."
        )

    def join(self, maps: Iterable[str]) -> Genotype | None:
        """Return the concatenation of some maps; None where a sensor has none of them."""
        return self._finish({self.pools.present[-1]: CellGenotype(self._ordered(maps), ())})

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one choice, or what a group of maps contributes."""
        for _ in range(DRAWS):
            changed = self._finish(self._mutated(genotype, rng))
            if changed is not None and changed.cells != genotype.cells:
                return changed
        return self.draw(rng)

    def cross(self, first: Genotype, second: Genotype, rng: random.Random) -> Genotype:
        """Take each cell, and each input of a join, from one of two architectures."""
        for _ in range(DRAWS):
            cells = {}
            for name in self.pools.present:
                options = [g.cells.get(name) for g in (first, second)]
                both = [cell for cell in options if cell is not None and cell.joins]
                chosen = rng.choice(options)
                if len(both) == 2:
                    inputs = self._ordered(
                        i for cell in both for i in cell.inputs if rng.random() < 0.5
                    )
                    chosen = CellGenotype(inputs, ()) if inputs else None
                if chosen is not None:
                    cells[name] = chosen
            genotype = self._finish(cells)
            if genotype is not None:
                return genotype
        return self.draw(rng)

    def _drawn(self, rng: random.Random) -> dict[str, CellGenotype]:
        whole = random_genotype(
            self.pools,
            nodes=self.nodes,
            seed=rng.randrange(2**31),
            operations=self.operations,
        ).cells
        *earlier, last = self.pools.present
        if rng.random() >= _JOINED:
            return dict(whole)
        cells = {name: whole[name] for name in earlier if rng.random() < _EARLIER}
        # Of some sources of evidence: nearly every set of single maps would need all of them.
        maps = [n for group in self.groups if rng.random() < 0.5 for n in sorted(group)]
        maps = maps or list(self.pools.maps())
        inputs = rng.sample(maps, rng.randint(1, len(maps)))
        inputs += [cell_output(name) for name in cells]
        cells[last] = CellGenotype(self._ordered(inputs), ())
        return cells

    def _mutated(self, genotype: Genotype, rng: random.Random) -> dict[str, CellGenotype]:
        cells = dict(genotype.cells)
        name = rng.choice(list(cells))
        cell = cells[name]
        last = self.pools.present[-1]
        if cell.joins and rng.random() < _OTHER_KIND:
            cells[name] = self._with_nodes(name, rng)
        elif cell.joins:
            cells[name] = self._mutated_join(cell, rng)
        elif name == last and rng.random() < _OTHER_KIND:
            cells[name] = CellGenotype(self._ordered(self.pools.maps()), ())
        elif rng.random() < 0.5:
            inputs = list(cell.inputs)
            inputs[rng.randrange(2)] = rng.choice(self.pools.candidates(name))
            cells[name] = replace(cell, inputs=tuple(inputs))
        else:
            cells[name] = replace(cell, nodes=self._mutated_nodes(cell, rng))
        absent = [c for c in self.pools.present[:-1] if c not in cells]
        if cells[last].joins and absent and rng.random() < 0.2:
            new = rng.choice(absent)
            cells[new] = self._with_nodes(new, rng)
            joined = (*cells[last].inputs, cell_output(new))
            cells[last] = CellGenotype(self._ordered(joined), ())
        return cells

    def _with_nodes(self, name: str, rng: random.Random) -> CellGenotype:
        """Draw a cell with nodes."""
        drawn = random_genotype(
            self.pools, nodes=self.nodes, seed=rng.randrange(2**31), operations=self.operations
        )
        return drawn.cells[name]

    def _mutated_join(self, cell: CellGenotype, rng: random.Random) -> CellGenotype:
        inputs = set(cell.inputs)
        if self.groups and rng.random() < 0.4:
            group = rng.choice(list(self.groups))
            inputs = inputs - group if inputs & group else inputs | group
        else:
            allowed = list(self.pools.maps()) + [i for i in cell.inputs if ":" in i]
            inputs ^= {rng.choice(allowed)}
        return CellGenotype(self._ordered(inputs), ())

    def _mutated_nodes(self, cell: CellGenotype, rng: random.Random) -> tuple[NodeGenotype, ...]:
        nodes = list(cell.nodes)
        number = rng.randrange(len(nodes))
        if rng.random() < 0.5:
            nodes[number] = replace(nodes[number], operation=rng.choice(list(self.operations)))
        else:
            names = ["x", "y", *(f"node:{i}" for i in range(number))]
            first, second = rng.sample(names, 2)
            nodes[number] = replace(nodes[number], inputs=(first, second))
        return tuple(nodes)

    def _ordered(self, inputs: Iterable[str]) -> tuple[str, ...]:
        """Return the inputs of a join in the order of the pools, each once."""
        chosen = set(inputs)
        joinable = self.pools.joinable(self.pools.present[-1])
        return tuple(name for name in joinable if name in chosen)

    def _finish(self, cells: dict[str, CellGenotype]) -> Genotype | None:
        """Return the architecture without what does not reach the head; None if it is not sound."""
        last = self.pools.present[-1]
        cell = cells.get(last)
        if cell is None:
            return None
        present = {cell_output(name) for name in cells}
        kept: dict[str, CellGenotype] = {}
        for name, parts in cells.items():
            inputs = tuple(i for i in parts.inputs if not i.startswith("cell:") or i in present)
            if not inputs or (not parts.joins and len(inputs) < 2):
                return None
            if not parts.joins and inputs[0] == inputs[1] and len(self.pools.candidates(name)) > 1:
                return None
            kept[name] = replace(parts, inputs=inputs)
        genotype = Genotype(
            cells={name: kept[name] for name in self.pools.present if name in kept},
            output=last,
            pools={name: self.pools.candidates(name) for name in self.pools.present},
        ).pruned()
        return genotype if reads(genotype, self.pools.sensors) else None


def made_by_hand(space: FusionSpace, costs: PieceCosts | None) -> list[Genotype]:
    """Return the concatenation of all maps, and what a person would leave out to save time.

    Each of the following ones leaves out the maps that need the dearest piece of evidence which the
    one before has, as long as every sensor has a map left. Without costs there is the first alone.
    """
    maps = list(space.pools.maps())
    steps = [concatenation(space.pools)]
    while costs is not None:
        price = {unit: costs.pieces[unit].milliseconds for unit in costs.units(frozenset(maps))}
        for unit in sorted(price, key=lambda unit: (-price[unit], unit)):
            left = [name for name in maps if unit not in costs.units(frozenset({name}))]
            if (joined := space.join(left)) is not None:
                maps = left
                steps.append(joined)
                break
        else:
            break
    return steps


def evolve(
    space: FusionSpace,
    judge: Callable[[Sequence[Genotype]], Iterable[tuple[dict[str, float], tuple[float, ...]]]],
    *,
    population: int,
    generations: int,
    first: Sequence[Genotype] = (),
    seed: int = 0,
    progress: Callable[[int, Judged], None] = lambda *_: None,
    keep_going: Callable[[], bool] = lambda: True,
) -> list[Judged]:
    """Search the space; returns every architecture that was judged, the best trade-offs first.

    The first population is what was made by hand, the concatenation at least, and draws. In each
    generation as many children are made as the population has members: of two good ones, or of one
    by mutation. The best of both by ``best_first`` go on.

    Args:
        space: what may be drawn.
        judge: returns, of each architecture of a generation in their order, figures by name and
            objectives that are to be small.
        population: architectures that go on.
        generations: after the first population; 0 is a random search.
        first: made by hand, of which at most half of the first population is taken.
        seed: of all draws.
        progress: called with the generation and each architecture that was judged.
        keep_going: whether to go on after a generation; False ends the evolution early.
    """
    rng = random.Random(seed)
    known: dict[str, Judged] = {}

    def judged(make: Callable[[], Genotype], generation: int) -> list[Judged]:
        """Judge as many new architectures as the population has members."""
        chosen: dict[str, Genotype] = {}
        for _ in range(DRAWS):
            if len(chosen) == population:
                break
            genotype = make()
            key = repr(sorted(genotype.cells.items()))
            if key not in known:
                chosen.setdefault(key, genotype)
        answers = judge(list(chosen.values()))
        for (key, genotype), (figures, objectives) in zip(chosen.items(), answers, strict=True):
            known[key] = Judged(genotype, figures, objectives)
            progress(generation, known[key])
        return [known[key] for key in chosen]

    given = iter([*first, concatenation(space.pools)][: max(1, population // 2)])
    members = judged(lambda: next(given, None) or space.draw(rng), 0)
    members = [members[i] for i in best_first([m.objectives for m in members])]

    def child() -> Genotype:
        parents = [min(rng.sample(range(len(members)), 2)) for _ in range(2)]
        if rng.random() < 0.3:
            mother, father = (members[p].genotype for p in parents)
            return space.cross(mother, father, rng)
        return space.mutate(members[parents[0]].genotype, rng)

    for generation in range(1, generations + 1):
        if not keep_going():
            break
        everyone = [*members, *judged(child, generation)]
        order = best_first([member.objectives for member in everyone])
        members = [everyone[i] for i in order[:population]]
    results = list(known.values())
    return [results[i] for i in best_first([r.objectives for r in results])]
