"""Costs of architectures: a sum over pieces, and what those of a network are."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from chiasm.detection.layers.candidates import frozen_pools
from chiasm.errors import DataError
from chiasm.fusion.cell import JoinCell
from chiasm.fusion.costs import BASE, Cost, PieceCosts, pieces_of
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype, concatenation
from chiasm.fusion.network import FusionNetwork
from chiasm.fusion.operations import OPERATIONS, make_operation

POOLS = frozen_pools()
SPACE = FusionSpace(POOLS)


def units(maps: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted({f"{name.split('/')[0]}/features" for name in maps}))


def priced(**changes: Cost) -> PieceCosts:
    """Every piece at another power of two, so that each sum has one reading."""
    names = [BASE, "rgb/features", "geometry/features", "output", "join"]
    names += [f"operation:{name}" for name in OPERATIONS]
    names += [f"project:{name}" for name in POOLS.maps() | POOLS.features]
    pieces = {name: Cost(2.0**k, 1000.0 * k) for k, name in enumerate(names)} | changes
    return PieceCosts(pieces, units, {"threads": 2})


def two_cells() -> Genotype:
    nodes = (NodeGenotype(("x", "y"), "glu"), NodeGenotype(("node:0", "x"), "glu"))
    return Genotype(
        {
            "early": CellGenotype(("rgb/f4", "geometry/f4"), nodes),
            "late": CellGenotype(("rgb/f4", "cell:early"), ()),
        },
        output="late",
    )


def test_an_architecture_costs_the_sum_of_what_it_is_made_of():
    costs = priced()
    genotype = two_cells()
    p = costs.pieces
    # The join reads rgb/f4 by a projection of its own.
    expected = [BASE, "rgb/features", "geometry/features", "output", "join", "join"]
    expected += ["operation:glu"] * 2 + ["project:rgb/f4"] * 2 + ["project:geometry/f4"]
    total = costs.of(genotype, maps=POOLS.maps(genotype.required))
    assert total.milliseconds == pytest.approx(sum(p[name].milliseconds for name in expected))
    assert total.megabytes == pytest.approx(sum(p[name].megabytes for name in expected))


def test_the_pieces_are_the_layers_of_the_network():
    rng = random.Random(3)
    kinds = {name: type(make_operation(name, 4)) for name in OPERATIONS}
    for genotype in [concatenation(POOLS), *(SPACE.draw(rng) for _ in range(12))]:
        network = FusionNetwork(POOLS, genotype, width=4, size=8)
        pieces = Counter(name.split(":")[0] for name in pieces_of(genotype))
        assert pieces["project"] == sum(len(layers) for layers in network.projections.values())
        joins = [cell for cell in network.cells.values() if isinstance(cell, JoinCell)]
        assert pieces["join"] == sum(cell.mix[0].in_channels // 4 for cell in joins)
        assert pieces["output"] == len(network.cells) - len(joins)
        layers = Counter(type(layer) for layer in network.modules())
        named = Counter(pieces_of(genotype))
        assert all(named[f"operation:{name}"] == layers[kind] for name, kind in kinds.items())


def test_what_does_not_reach_the_head_costs_nothing():
    genotype = two_cells()
    cells = dict(genotype.cells) | {"late": CellGenotype(("rgb/f4", "geometry/f16"), ())}
    apart = Genotype(cells, output="late")
    assert sorted(pieces_of(apart)) == sorted(pieces_of(apart.pruned()))
    assert "output" not in pieces_of(apart)


def test_evidence_is_counted_once_however_many_maps_come_of_it():
    costs = priced()
    one, both = (
        Genotype({"late": CellGenotype(maps, ())}, output="late")
        for maps in (("rgb/f16", "geometry/f16"), ("rgb/f16", "rgb/f8", "geometry/f16"))
    )
    difference = (
        costs.of(both, maps=both.required).milliseconds
        - costs.of(one, maps=one.required).milliseconds
    )
    p = costs.pieces
    assert difference == p["project:rgb/f8"].milliseconds + p["join"].milliseconds


def test_a_piece_that_was_not_measured_is_named():
    costs = priced()
    pieces = {n: c for n, c in costs.pieces.items() if n not in ("join", "project:rgb/f16")}
    lacking = PieceCosts(pieces, units)
    genotype = Genotype({"late": CellGenotype(("rgb/f16", "geometry/f16"), ())}, output="late")
    with pytest.raises(DataError, match="join, project:rgb/f16 was not measured"):
        lacking.of(genotype, maps=genotype.required)


def test_costs_are_written_with_what_they_were_measured_on():
    record = json.loads(json.dumps(priced(join=Cost(0.5, 0.25)).to_json()))
    assert record["threads"] == 2
    assert record["pieces"]["join"] == {"milliseconds": 0.5, "megabytes": 0.25}
