"""The fused classifier: its features lie as they should, and what is not used is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from chiasm.diagnosis.layers.phase_stages import MAXIMUM_ROWS, PhaseStages, fold_cycles
from chiasm.diagnosis.layers.recording_parts import dependencies
from chiasm.diagnosis.models.fused import fused_small
from chiasm.errors import ConfigurationError, DataError, GenotypeError
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype, random_genotype
from chiasm.fusion.make import normed_by_sample
from chiasm.samples import RecordingBatch

SHAPE = {"image_size": 32, "series_length": 7680, "classes": 4}
BATCH = RecordingBatch(
    image=torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
    series=torch.rand(3, 1, 7680, generator=torch.Generator().manual_seed(2)),
    label=torch.tensor([0, 1, 2]),
)


def build(fusion, seed=0, **more):
    torch.manual_seed(seed)
    return fused_small(fusion, **SHAPE | more).eval()


def late(*inputs: str) -> Genotype:
    node = NodeGenotype(("x", "y"), "addition")
    return Genotype({"late": CellGenotype(inputs, (node, node))}, output="late")


SUPERNET = build("supernet")
POOLS = SUPERNET.fusion.pools
GENOTYPES = [random_genotype(POOLS, seed=seed).pruned() for seed in range(6)] + [
    late("image/token_mean", "series/token_class"),
    late("image/stage_class", "series/stage_mean"),
]


def test_every_candidate_is_made_in_the_shape_that_the_pools_promise():
    with torch.inference_mode():
        maps = SUPERNET.source(BATCH, SUPERNET.fusion.required).maps
    for name, candidate in POOLS.features.items():
        side = 1 if candidate in POOLS.late else 8
        assert maps[name].shape == (3, candidate.channels, side, side)
        assert name.split("/")[0] == candidate.modality


def test_tokens_lie_as_patches_and_as_times():
    with torch.inference_mode():
        features = SUPERNET.source(BATCH, SUPERNET.fusion.required)
    patches = features.maps["image/embedding"]
    tokens = features.embedded["image"].unflatten(1, (2, 2))
    assert torch.equal(patches[:, :, 0, 7], tokens[:, 0, 1])
    times = features.maps["series/embedding"]
    assert torch.equal(times[..., 0], times[..., 7])
    first = features.embedded["series"][:, :4].mean(dim=1)  # 30 tokens in 8 rows
    torch.testing.assert_close(times[:, :, 0, 0], first)


@pytest.mark.parametrize("number", range(len(GENOTYPES)))
def test_what_is_not_used_is_not_there_and_changes_nothing(number):
    small = build(GENOTYPES[number], seed=number)
    whole = build("supernet", seed=number)
    whole.fusion, whole.head = small.fusion, small.head
    kept = whole.source.state_dict()
    small.source.load_state_dict({name: kept[name] for name in small.source.state_dict()})
    with torch.inference_mode():
        for batch in (BATCH, replace(BATCH, image=None), replace(BATCH, series=None)):
            assert torch.allclose(small(batch).logits, whole(batch).logits, atol=1e-6)
    assert len(small.source.state_dict()) < len(kept)


@pytest.mark.parametrize("number", range(len(GENOTYPES)))
def test_every_weight_of_a_derived_network_learns(number):
    network = build(GENOTYPES[number]).train()
    output = network(BATCH)
    loss = torch.nn.functional.cross_entropy(output.logits, BATCH.label)
    likelihood = sum(n.sum() for n in output.flow_nll.values())
    (loss + network.project(output).sum() + likelihood).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_layers_need_all_tokens_below_them_and_stages_only_their_own():
    both = ("image", "series")
    deep = dependencies({"image/layer2", "series/stage1"}, modalities=both, stages=3)
    assert (deep.tokens, deep.flows, deep.layers, deep.token_mean) == (both, both, 2, False)
    assert deep.stages == {"series": 1}
    shallow = dependencies({"series/embedding", "image/flow"}, modalities=both, stages=3)
    assert (shallow.tokens, shallow.flows, shallow.layers) == (both, ("image",), 0)
    pooled = dependencies({"image/token_class", "image/stage_mean"}, modalities=both, stages=3)
    assert (pooled.layers, pooled.token_mean, pooled.token_heads) == (4, True, ("image",))
    assert (pooled.stages, pooled.stage_heads) == ({"image": 3}, ())


@pytest.mark.parametrize("fusion", ["supernet", "concatenation", GENOTYPES[0]])
def test_in_training_recordings_of_a_batch_do_not_see_each_other(fusion):
    network = build(fusion).train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    together = network(BATCH, density=False).logits
    first = RecordingBatch(BATCH.image[:1], BATCH.series[:1])
    torch.testing.assert_close(
        network(first, density=False).logits, together[:1], rtol=1e-4, atol=1e-5
    )


def test_norms_are_replaced_wherever_they_stand():
    network = nn.ModuleList([nn.BatchNorm2d(6), nn.Sequential(nn.Conv2d(6, 6, 1))])
    network[1].append(nn.BatchNorm2d(6))
    assert normed_by_sample(network) is network
    x = torch.randn(2, 6, 3, 3)
    for layer in (network[0], network[1][1]):
        flat = layer(x).flatten(1)
        torch.testing.assert_close(flat.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)


def test_an_absent_modality_is_zeros_in_every_map():
    with torch.inference_mode():
        maps = SUPERNET.source(replace(BATCH, series=None), SUPERNET.fusion.required).maps
    for name in POOLS.features:
        assert bool(maps[name].any()) is name.startswith("image/")


def test_a_fusion_that_there_is_not_is_told():
    with pytest.raises(ConfigurationError, match="fusion must be"):
        build("sum")
    with pytest.raises(GenotypeError, match="rgb/f4"):
        build(late("rgb/f4", "image/stage_mean"))
    with pytest.raises(ConfigurationError, match="flow must be"):
        build("supernet", flow="spline")
    with pytest.raises(ConfigurationError):
        build("supernet", candidates=("*/nothing",))


def test_stages_turn_with_the_phase():
    torch.manual_seed(0)
    stages = PhaseStages(2, stem=8, widths=(8, 16)).eval()
    picture = torch.randn(2, 2, 12, 64)
    with torch.inference_mode():
        plain, turned = stages(picture), stages(picture.roll(16, dims=-1))
    assert [value.shape for value in plain] == [(2, 8, 3, 16), (2, 16, 2, 8)]
    for value, other, turn in zip(plain, turned, (4, 2)):
        torch.testing.assert_close(other, value.roll(turn, dims=-1), rtol=1e-4, atol=1e-5)


def test_a_series_is_folded_cycle_by_cycle():
    series = torch.arange(2 * 330, dtype=torch.float32).view(1, 2, 330)
    rows = fold_cycles(series, cycle=100)
    assert rows.shape == (1, 2, 3, 100)
    for row in range(3):
        assert torch.equal(rows[0, 1, row], series[0, 1, 100 * row : 100 * (row + 1)])
    long = fold_cycles(torch.rand(1, 1, 4 * 3 * MAXIMUM_ROWS), cycle=4)
    assert long.shape == (1, 1, MAXIMUM_ROWS, 4)
    with pytest.raises(DataError, match="record at least one"):
        fold_cycles(series, cycle=400)


def test_many_cycles_are_averaged_in_groups():
    series = torch.rand(1, 1, 4 * 3 * MAXIMUM_ROWS)
    rows = fold_cycles(series, cycle=4)
    expected = series.view(1, 1, MAXIMUM_ROWS, 3, 4).mean(dim=3)
    torch.testing.assert_close(rows, expected)


@pytest.mark.parametrize("fusion", ["concatenation", GENOTYPES[0], GENOTYPES[1]])
def test_four_recordings_are_learned_by_heart(fusion):
    network = build(fusion).train()
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(4)
    # Each class has pulses at a phase of its own, and ink in columns of its own.
    series = 0.1 * torch.rand(4, 1, 60, 128, generator=generator)
    image = 0.1 * torch.rand(4, 3, 32, 32, generator=generator)
    for k in range(4):
        series[k, ..., 32 * k : 32 * k + 8] += 1.0
        image[k, ..., 8 * k : 8 * k + 8] += 1.0
    recordings = RecordingBatch(image, series.flatten(2), labels)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(120):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(recordings, density=False).logits, labels)
        loss.backward()
        optimiser.step()
        if loss.item() < 0.1:
            break
    assert loss.item() < 0.1
    alone = [
        network(replace(recordings, **{m: None}), density=False).logits for m in ("image", "series")
    ]
    assert all(torch.isfinite(logits).all() for logits in alone)
