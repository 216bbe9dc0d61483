"""Properties of the two-level search space."""

from __future__ import annotations

import json

import pytest
import torch

from chiasm.detection.layers.candidates import frozen_pools, reconstruction_pools
from chiasm.errors import ConfigurationError, GenotypeError
from chiasm.fusion.cell import draw_pair
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.genotype import Genotype, concatenation, random_genotype
from chiasm.fusion.make import ConcatenationFusion
from chiasm.fusion.network import FusionNetwork, FusionSupernet
from chiasm.fusion.operations import OPERATIONS, GuidedAttention, make_operation
from chiasm.fusion.pools import Candidate, Pools, joined
from chiasm.fusion.projection import Projection
from chiasm.fusion.search_steps import second_order_gradients

POOLS = reconstruction_pools(width=4)


def features(pools: Pools, size: int = 32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.randn(2, c.channels, max(size // c.stride, 2), max(size // c.stride, 2))
        for name, c in pools.maps().items()
    }


def test_the_papers_pools_have_96_architecture_parameters():
    pools = reconstruction_pools(width=4, joins=False)
    operations = ("addition", "concatenation", "glu", "guided_attention")
    supernet = FusionSupernet(pools, width=4, size=8, operations=operations)
    assert sum(p.numel() for p in supernet.architecture_parameters()) == 96
    sizes = {cell: len(pools.candidates(cell)) for cell in pools.present}
    assert sizes == {"early": 4, "middle": 9, "late": 8}
    assert pools == POOLS.matching(["*/[ED]?"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_the_shape_and_use_both_inputs(name):
    torch.manual_seed(0)
    operation = make_operation(name, 8).eval()
    x, y = torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)
    out = operation(x, y)
    assert out.shape == x.shape
    assert not torch.allclose(out, operation(x, y + 1 + torch.rand_like(y)))
    assert not torch.allclose(out, operation(x + torch.rand_like(x), y))


def test_guided_attention_equals_the_formula():
    torch.manual_seed(1)
    attention = GuidedAttention(4)
    x, y = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    memory = torch.nn.functional.avg_pool2d(y, 4).flatten(2)[0].T  # (tokens, C)
    query = x.flatten(2)[0].T
    weights = torch.softmax(query @ memory.T / 2.0, dim=1)
    expected = attention.norm((weights @ memory).T.reshape(1, 4, 8, 8))
    torch.testing.assert_close(attention(x, y), expected)


@pytest.mark.parametrize(
    "cells", [("early",), ("late",), ("early", "late"), ("early", "middle", "late")]
)
def test_a_decided_supernet_equals_its_derived_network(cells):
    pools = POOLS.only(*cells)
    supernet = FusionSupernet(pools, width=8, size=16, seed=3).eval()
    with torch.no_grad():
        for parameter in supernet.architecture_parameters():
            rows = parameter if parameter.ndim == 2 else parameter[None]
            for number, row in enumerate(rows):
                row.zero_()
                row[number % len(row)] = 200.0
    network = FusionNetwork.from_supernet(supernet, supernet.genotype()).eval()
    inputs = features(pools)
    torch.testing.assert_close(network(inputs), supernet(inputs), atol=1e-5, rtol=1e-4)


def test_what_is_not_required_does_not_matter():
    genotype = random_genotype(POOLS, seed=5)
    network = FusionNetwork(POOLS, genotype, width=8, size=16).eval()
    inputs = features(POOLS)
    expected = network(inputs)
    torch.testing.assert_close(network({n: inputs[n] for n in network.required}), expected)


def test_every_parameter_of_a_derived_network_gets_a_gradient():
    network = FusionNetwork(POOLS, random_genotype(POOLS, seed=1), width=8, size=16)
    network(features(POOLS)).square().mean().backward()
    used = [p.grad for p in network.cells["late"].output.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in used)


def test_genotypes_survive_their_file(tmp_path):
    for seed in range(20):
        genotype = random_genotype(frozen_pools(), seed=seed)
        genotype.validate(frozen_pools())
        genotype.save(tmp_path / "g.json")
        assert Genotype.load(tmp_path / "g.json") == genotype
        assert set(genotype.pruned().cells) == set(genotype.reachable())


@pytest.mark.parametrize("seed", range(8))
def test_a_genotype_comes_back_from_plain_values(seed):
    drawn = random_genotype(POOLS, nodes=1 + seed % 3, seed=seed)
    for genotype in (drawn, drawn.pruned(), concatenation(POOLS)):
        content = genotype.to_dict()
        assert json.loads(json.dumps(content)) == content == json.loads(genotype.to_json())
        assert Genotype.from_dict(content) == Genotype.from_json(genotype.to_json()) == genotype
    content["provenance"]["score"] = [0.5]
    again = Genotype.from_dict(content)
    content["provenance"]["score"].append("changed")
    again.to_dict()["provenance"]["score"].append("changed")
    assert again.provenance == {"score": [0.5]} and "score" not in genotype.provenance


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": 9}, "version"),
        ({"schema": "x"}, "schema"),
        ({"output": "nowhere"}, "output"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path, change, word):
    data = json.loads(random_genotype(POOLS).to_json()) | change
    with pytest.raises(GenotypeError, match=word):
        Genotype.from_json(json.dumps(data))


def test_an_unknown_operation_names_the_known_ones():
    text = random_genotype(POOLS, seed=2).to_json()
    operation = json.loads(text)["cells"]["late"]["nodes"][0]["operation"]
    with pytest.raises(GenotypeError, match="guided_attention"):
        Genotype.from_json(text.replace(f'"{operation}"', '"sorcery"'))


def test_a_genotype_must_fit_the_pools():
    with pytest.raises(GenotypeError, match="pool"):
        FusionNetwork(frozen_pools(), random_genotype(POOLS), width=8, size=16)


def test_empty_and_doubled_pools_are_refused():
    with pytest.raises(ConfigurationError):
        Pools()
    twice = Candidate("rgb/E1", 4, 1, "rgb")
    with pytest.raises(ConfigurationError, match="rgb/E1"):
        Pools(early=(twice, twice))


def test_a_single_candidate_feeds_both_inputs():
    pools = Pools(late=(Candidate("rgb/f", 3, 8, "rgb"),))
    assert FusionSupernet(pools, width=4, size=8).genotype().cells["late"].inputs == ("rgb/f",) * 2


def test_concatenation_uses_every_candidate():
    fusion = ConcatenationFusion(POOLS, width=8, size=16)
    assert fusion(features(POOLS)).shape == (2, 8, 16, 16)
    assert fusion.required == frozenset(POOLS.maps())


def test_second_order_gradients_equal_autograd_on_a_bilevel_quadratic():
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(3, dtype=torch.float64))
    a = torch.nn.Parameter(torch.randn(3, dtype=torch.float64))
    target = torch.randn(3, dtype=torch.float64)
    rate = 0.1

    def training(weight=w):
        return ((weight - a) ** 2).sum() + (weight * a**2).sum()

    def validation(weight=w):
        return ((weight - target) ** 2).sum() + (a * weight).sum()

    (inner,) = torch.autograd.grad(training(), w, create_graph=True)
    (expected,) = torch.autograd.grad(validation(w - rate * inner), a)
    before = w.detach().clone()
    (gradient,) = second_order_gradients(
        [w], [a], lambda: [training()], lambda: [validation() / 4, validation() * 3 / 4], rate
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(w.detach(), before)


def test_the_drawing_names_what_is_used(tmp_path):
    genotype = random_genotype(frozen_pools(), seed=4)
    draw_genotype(genotype, path_svg=tmp_path / "g.svg", path_png=tmp_path / "g.png")
    text = (tmp_path / "g.svg").read_text()
    assert all(name in text for name in genotype.required)
    assert (tmp_path / "g.png").stat().st_size > 1000


def test_projecting_joined_maps_equals_one_convolution_of_their_concatenation():
    torch.manual_seed(2)
    parts = (Candidate("rgb/a", 3, 4, "rgb"), Candidate("rgb/b", 5, 8, "rgb"))
    both = joined("rgb/ab", *parts)
    assert (both.channels, both.stride) == (8, 4)
    projection = Projection(both, width=6).eval()
    maps = {"rgb/a": torch.randn(2, 3, 16, 16), "rgb/b": torch.randn(2, 5, 8, 8)}
    up = torch.nn.functional.interpolate(maps["rgb/b"], size=(16, 16), mode="bilinear")
    weight = torch.cat([layer.weight for layer in projection.layers], dim=1)
    whole = torch.nn.functional.conv2d(torch.cat([maps["rgb/a"], up], dim=1), weight)
    torch.testing.assert_close(projection(maps), torch.relu(projection.norm(whole)))


def test_a_network_asks_for_the_parts_of_joined_candidates():
    pools = frozen_pools()
    network = FusionSupernet(pools, width=4, size=8)
    assert network.required == frozenset(pools.maps())
    assert "rgb/all" not in network.required and "rgb/residual_fine" in network.required


def test_pairs_are_drawn_with_the_relaxed_probabilities():
    logits = torch.tensor([[0.0, 1.0, -1.0], [0.5, 0.0, 0.0]])
    first, second = logits.softmax(dim=1)
    expected = first[:, None] * second[None]
    expected.fill_diagonal_(0)
    expected /= expected.sum()
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(3, 3)
    for _ in range(4000):
        counts[draw_pair(logits, generator)] += 1
    torch.testing.assert_close(counts / 4000, expected, atol=0.03, rtol=0)
    assert draw_pair(torch.zeros(2, 1), generator) == (0, 0)


def test_drawn_genotypes_are_valid_and_repeat_with_the_seed():
    supernet = FusionSupernet(POOLS, width=4, size=8)
    drawn = [
        supernet.genotype(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1, 2, 3)
    ]
    for genotype in drawn:
        genotype.validate(POOLS)
    assert drawn[0] == drawn[1]
    assert len({genotype.to_json() for genotype in drawn}) > 2


def test_a_scale_that_becomes_middle_leaves_the_late_pool():
    """Figure 4b: the first two layers of the middle against all of them."""
    first, every = (reconstruction_pools(width=4, middle_scales=s) for s in ((2, 3), (2, 3, 4)))
    assert first == reconstruction_pools(width=4)
    moved = {f"{m}/{name}" for m in ("rgb", "geometry") for name in ("E4", "D1", "E4D1")}
    names = {cell: {c.name for c in every.features_of(cell)} for cell in every.present}
    assert names["middle"] == {c.name for c in first.middle} | moved
    assert names["late"] == {c.name for c in first.late} - moved
    assert every.early == first.early
    assert all(len(every.candidates(cell)) >= 2 for cell in every.present)


@pytest.mark.parametrize("scales", [(), (1, 2), (2, 4), (4, 5), (3, 2)])
def test_middle_scales_are_consecutive_and_not_the_outermost(scales):
    with pytest.raises(ConfigurationError, match="consecutive scales from 2 to 4"):
        reconstruction_pools(width=4, middle_scales=scales)
