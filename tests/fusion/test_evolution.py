"""Evolution: whatever it draws, changes or crosses is sound, and it finds what is good."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from chiasm.detection.layers.candidates import frozen_pools, reconstruction_pools
from chiasm.diagnosis.layers.recording_parts import recording_pools
from chiasm.fusion.costs import Cost, PieceCosts
from chiasm.fusion.evolution import FusionSpace, Judged, evolve, made_by_hand
from chiasm.fusion.finalists import reads
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.fusion.pareto import fronts
from chiasm.fusion.pools import Candidate, Pools

FROZEN = frozen_pools()
# By sensor and whether a memory of normals makes them: in one step a mutation drops such a group.
MEMORY = ("residual_fine", "residual_coarse", "distance")
GROUPS = [
    frozenset(n for n in FROZEN.maps() if n.startswith(m) and (n.split("/")[1] in MEMORY) == made)
    for m in ("rgb", "geometry")
    for made in (False, True)
]
SPACES = {
    "frozen": FusionSpace(FROZEN),
    "frozen, in groups": FusionSpace(FROZEN, groups=GROUPS),
    "frozen, one node": FusionSpace(FROZEN, nodes=1, operations=("glu", "addition")),
    "from scratch": FusionSpace(reconstruction_pools(width=4), nodes=3),
    "recordings": FusionSpace(recording_pools(width=8, stages=(8, 8, 8), classes=5)),
    "two pools": FusionSpace(FROZEN.only("early", "middle")),
    "one sensor": FusionSpace(frozen_pools(("rgb",))),
    "one map of each": FusionSpace(
        Pools(late=(Candidate("rgb/a", 3, 8, "rgb"), Candidate("geometry/a", 3, 8, "geometry")))
    ),
}
every_space = pytest.mark.parametrize("name", SPACES)


def assert_sound(genotype: Genotype, space: FusionSpace) -> None:
    genotype.validate(space.pools)
    assert reads(genotype, space.pools.sensors)
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert genotype.pruned() == genotype
    assert genotype.output == space.pools.present[-1]
    for name, cell in genotype.cells.items():
        assert cell.joins or len(cell.nodes) == space.nodes
        assert {node.operation for node in cell.nodes} <= set(space.operations)
        assert not cell.joins or name == genotype.output
        if len(space.pools.candidates(name)) > 1:
            assert len(set(cell.inputs)) == len(cell.inputs)


@every_space
def test_draws_mutations_and_crossings_are_sound(name):
    space, rng = SPACES[name], random.Random(1)
    drawn = [concatenation(space.pools), *(space.draw(rng) for _ in range(25))]
    mutated = [space.mutate(genotype, rng) for genotype in drawn]
    crossed = [space.cross(*rng.sample(drawn + mutated, 2), rng) for _ in range(25)]
    for genotype in [*drawn, *mutated, *crossed]:
        assert_sound(genotype, space)
    if len(space.pools.maps()) > 2:  # of two maps, both of which it must read, a join has no other
        assert all(after.cells != before.cells for before, after in zip(drawn, mutated))


def test_the_draws_hold_joins_and_nodes_and_earlier_cells():
    rng = random.Random(0)
    drawn = [SPACES["frozen"].draw(rng) for _ in range(60)]
    last = [genotype.cells["late"] for genotype in drawn]
    assert 0 < sum(cell.joins for cell in last) < len(drawn)
    assert {len(genotype.cells) for genotype in drawn} == {1, 2, 3}
    assert len({len(cell.inputs) for cell in last}) > 6


@every_space
def test_a_crossing_takes_from_its_parents_alone(name):
    space, rng = SPACES[name], random.Random(2)
    for _ in range(25):
        parents = space.draw(rng), space.draw(rng)
        child = space.cross(*parents, rng)
        for cell, parts in child.cells.items():
            options = [g.cells[cell] for g in parents if cell in g.cells]
            inputs = {i for option in options for i in option.inputs}
            if parts.joins:
                assert set(parts.inputs) <= inputs
            else:
                assert parts in options


def test_a_mutation_changes_one_map_or_one_whole_group():
    rng = random.Random(3)
    whole = set(FROZEN.maps())
    lost = {
        name: [
            frozenset(whole - set(genotype.cells["late"].inputs))
            for genotype in (space.mutate(concatenation(FROZEN), rng) for _ in range(80))
            if len(genotype.cells) == 1 and genotype.cells["late"].joins
        ]
        for name, space in SPACES.items()
        if name in ("frozen", "frozen, in groups")
    }
    assert all(len(maps) == 1 for maps in lost["frozen"])
    assert all(len(maps) == 1 or maps in GROUPS for maps in lost["frozen, in groups"])
    assert any(maps in GROUPS for maps in lost["frozen, in groups"])


def test_a_join_may_become_a_cell_with_nodes_and_back():
    space, rng = SPACES["frozen"], random.Random(0)
    joined = concatenation(FROZEN)
    with_nodes = [
        g for g in (space.mutate(joined, rng) for _ in range(60)) if not g.cells["late"].joins
    ]
    assert with_nodes
    back = [space.mutate(with_nodes[0], rng) for _ in range(200)]
    assert any(g.cells["late"].joins for g in back)


def far_from(target: frozenset[str]) -> Callable[[Sequence[Genotype]], Any]:
    """Judge by how many maps a genotype reads amiss, and by how many it reads."""

    def judge(genotype: Genotype) -> tuple[dict[str, float], tuple[float, ...]]:
        maps = set(FROZEN.maps(genotype.required))
        return {"amiss": float(len(maps ^ target))}, (float(len(maps ^ target)), 0.0)

    return lambda genotypes: map(judge, genotypes)


TARGET = frozenset(("rgb/f4", "rgb/distance", "geometry/raw", "geometry/f16", "geometry/distance"))


def evolved(seed: int = 0, **changes: int) -> list[Judged]:
    sizes = {"population": 10, "generations": 9} | changes
    return evolve(SPACES["frozen, in groups"], far_from(TARGET), seed=seed, **sizes)


def test_evolution_comes_nearer_to_the_best_than_as_many_draws():
    seeds = range(4)
    evolution = [evolved(seed)[0].figures["amiss"] for seed in seeds]
    draws = [evolved(seed, population=100, generations=0)[0].figures["amiss"] for seed in seeds]
    assert sum(evolution) < sum(draws)
    assert min(evolution) <= 1


def test_the_hand_made_concatenation_is_judged_and_nothing_twice():
    asked: list[Genotype] = []

    def judge(genotypes: Sequence[Genotype]) -> Any:
        asked.extend(genotypes)
        return far_from(TARGET)(genotypes)

    results = evolve(SPACES["frozen"], judge, population=6, generations=3, seed=1)
    assert asked[0].cells == concatenation(FROZEN).cells
    assert len(asked) == 6 * (3 + 1) == len(results)
    distinct = {repr(sorted(genotype.cells.items())) for genotype in asked}
    assert len(distinct) == len(asked)
    assert {id(r.genotype) for r in results} == {id(g) for g in asked}


def priced(**dear: float) -> PieceCosts:
    """Let a map need the evidence of its name; named ones are dear, others cost a hundredth."""
    units = {name: name.split("/")[1] for name in FROZEN.maps()}
    pieces = {unit: Cost(dear.get(unit, 0.01), 0.0) for unit in units.values()}
    return PieceCosts(pieces, lambda maps: {units[name] for name in maps})


def test_by_hand_the_dearest_evidence_is_left_out_first():
    space = SPACES["frozen"]
    steps = made_by_hand(space, priced(distance=3.0, f16=2.0, residual_fine=1.0))
    assert steps[0].cells == concatenation(FROZEN).cells
    read = [set(FROZEN.maps(genotype.required)) for genotype in steps]
    for before, after, gone in zip(read, read[1:], ("distance", "f16", "residual_fine")):
        assert before - after == {f"rgb/{gone}", f"geometry/{gone}"}
    assert all(a > b for a, b in pairwise(read))
    assert all(reads(genotype, FROZEN.sensors) for genotype in steps)
    assert len(read[-1]) == 2  # one map of each sensor is left
    assert [g.cells for g in made_by_hand(space, None)] == [concatenation(FROZEN).cells]


def test_what_was_made_by_hand_is_judged_first_and_is_half_of_the_population_at_most():
    by_hand = made_by_hand(SPACES["frozen"], priced())
    asked: list[Genotype] = []

    def judge(genotypes: Sequence[Genotype]) -> Any:
        asked.extend(genotypes)
        return far_from(TARGET)(genotypes)

    evolve(SPACES["frozen"], judge, population=8, generations=0, first=by_hand)
    assert [genotype.cells for genotype in asked[:4]] == [g.cells for g in by_hand[:4]]
    assert len(asked) == 8
    assert not any(g.cells in [h.cells for h in by_hand[4:]] for g in asked[4:])


def test_the_same_seed_gives_the_same_and_another_does_not():
    first, again, other = evolved(5), evolved(5), evolved(6)
    assert [r.genotype for r in first] == [r.genotype for r in again]
    assert [r.genotype for r in first] != [r.genotype for r in other]


def test_the_best_trade_offs_come_first():
    def judge(genotype: Genotype) -> tuple[dict[str, float], tuple[float, ...]]:
        maps = set(FROZEN.maps(genotype.required))
        return {}, (float(len(maps ^ TARGET)), float(len(maps)))

    results = evolve(
        SPACES["frozen"],
        lambda genotypes: map(judge, genotypes),
        population=16,
        generations=8,
        seed=2,
    )
    front = fronts([r.objectives for r in results]).tolist()
    assert front == sorted(front)
    assert len({r.objectives for r, f in zip(results, front) if f == 0}) > 1


def test_it_ends_when_told_and_reports_every_architecture():
    told: list[int] = []
    results = evolve(
        SPACES["frozen"],
        far_from(TARGET),
        population=4,
        generations=9,
        progress=lambda generation, judged: told.append(generation),
        keep_going=lambda: len(told) < 8,
    )
    assert told == [0] * 4 + [1] * 4
    assert len(results) == 8


def test_a_space_smaller_than_its_population_is_judged_whole():
    results = evolve(
        FusionSpace(SPACES["one map of each"].pools, nodes=1, operations=("addition",)),
        lambda genotypes: [({}, (float(len(g.cells)),)) for g in genotypes],
        population=50,
        generations=0,
    )
    # A join, and a node of either order of two inputs of either order.
    assert len(results) == 5
