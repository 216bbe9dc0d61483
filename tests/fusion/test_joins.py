"""Genotypes with cells that join: what they refuse, and their file in versions 1 and 2."""

from __future__ import annotations

import json

import pytest

from chiasm.detection.layers.candidates import frozen_pools
from chiasm.errors import GenotypeError
from chiasm.fusion.genotype import (
    CellGenotype,
    Genotype,
    NodeGenotype,
    concatenation,
    random_genotype,
)

POOLS = frozen_pools()
GLU = (NodeGenotype(("x", "y"), "glu"),)


def joined(*inputs: str, **more: CellGenotype) -> Genotype:
    return Genotype({**more, "late": CellGenotype(inputs, ())}, output="late")


def test_the_concatenation_joins_every_map_once():
    genotype = concatenation(POOLS)
    genotype.validate(POOLS)
    assert genotype.output == "late" and list(genotype.cells) == ["late"]
    assert genotype.cells["late"].joins
    assert sorted(genotype.cells["late"].inputs) == sorted(POOLS.maps())
    assert genotype.required == frozenset(POOLS.maps())


def test_the_last_pool_that_there_is_joins():
    pools = POOLS.only("early", "middle")
    genotype = concatenation(pools)
    genotype.validate(pools)
    assert genotype.output == "middle" and genotype.required == frozenset(pools.maps())


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (CellGenotype((), ()), "has no input"),
        (CellGenotype(("rgb/f4", "rgb/f4"), ()), "without nodes joins different ones"),
        (CellGenotype(("rgb/f4",), GLU), "with nodes takes two inputs"),
        (CellGenotype(("rgb/f4", "rgb/f8", "geometry/f4"), GLU), "with nodes takes two inputs"),
        (CellGenotype(("rgb/f4", "cell:early"), ()), "does not come before it"),
        (CellGenotype(("rgb/f4", "cell:late"), ()), "does not come before it"),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused_by_name(cell, said):
    with pytest.raises(GenotypeError) as refusal:
        Genotype({"late": cell}, output="late")
    assert "late cell" in str(refusal.value)
    assert said in str(refusal.value)


def test_a_join_takes_single_maps_of_any_pool_and_a_cell_with_nodes_its_own_candidates():
    joined("rgb/raw", "rgb/residual_fine", "geometry/f16").validate(POOLS)
    for genotype in (
        joined("rgb/all"),  # a candidate of several maps
        joined("rgb/f99"),
        Genotype({"late": CellGenotype(("rgb/raw", "rgb/f16"), GLU)}, output="late"),
    ):
        with pytest.raises(GenotypeError, match="not in its pool"):
            genotype.validate(POOLS)


def test_a_join_needs_what_the_cells_below_it_need():
    early = CellGenotype(("rgb/fine", "geometry/f4"), GLU)
    genotype = joined("geometry/f16", "cell:early", early=early)
    assert genotype.reachable() == ("early", "late")
    assert genotype.required == {"rgb/fine", "geometry/f4", "geometry/f16"}
    apart = joined("geometry/f16", early=early)
    assert apart.required == {"geometry/f16"} and list(apart.pruned().cells) == ["late"]


def test_joins_survive_their_file_as_version_2(tmp_path):
    early = CellGenotype(("rgb/f4", "geometry/f4"), GLU)
    for genotype in (concatenation(POOLS), joined("rgb/f16"), joined("cell:early", early=early)):
        genotype.save(tmp_path / "g.json")
        assert json.loads((tmp_path / "g.json").read_text())["version"] == 2
        read = Genotype.load(tmp_path / "g.json")
        assert read == genotype
        assert list(read.cells["late"].inputs) == list(genotype.cells["late"].inputs)


def test_a_file_of_version_1_is_written_and_read_as_before():
    genotype = random_genotype(POOLS, seed=3)
    content = json.loads(genotype.to_json())
    assert content["version"] == 1
    assert set(content) == {"schema", "version", "output", "cells", "pools", "provenance"}
    assert all(set(cell) == {"inputs", "nodes"} for cell in content["cells"].values())
    assert Genotype.from_json(json.dumps(content)) == genotype


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_version_is_refused_with_a_remedy(version):
    content = json.loads(concatenation(POOLS).to_json()) | {"version": version}
    with pytest.raises(GenotypeError, match=r"versions 1 and 2.*Search again"):
        Genotype.from_json(json.dumps(content))


def test_names_that_are_one_text_and_joins_of_version_1_are_refused():
    content = json.loads(concatenation(POOLS).to_json())
    with pytest.raises(GenotypeError, match="version 1 does not know"):
        Genotype.from_json(json.dumps(content | {"version": 1}))
    name = content["output"]
    content["cells"][name]["inputs"] = "rgb/f4"
    with pytest.raises(GenotypeError, match="one name, not a list"):
        Genotype.from_json(json.dumps(content))


def test_the_summary_names_what_is_joined():
    early = CellGenotype(("rgb/fine", "geometry/f4"), GLU)
    text = joined("geometry/f16", "cell:early", early=early).summary()
    assert "late cell: joins geometry/f16, cell:early" in text
    assert "node 0: glu(x, y)" in text and "the late cell feeds the head" in text
