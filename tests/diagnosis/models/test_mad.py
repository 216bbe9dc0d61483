"""The whole network: shapes, counts, absent modalities, gradients, variants."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from chiasm.diagnosis.layers.contrastive import SupervisedContrast
from chiasm.diagnosis.layers.tokens import SegmentEmbedding, sincos_1d, sincos_2d
from chiasm.diagnosis.models.cost import attention_flops, flops
from chiasm.diagnosis.models.mad import Mad, mad_base, mad_small
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import find_model, models
from chiasm.samples import RecordingBatch

VARIANTS = [
    {},
    {"modalities": ("image",)},
    {"modalities": ("series",)},
    {"flow": "identity"},
    {"gate": "uniform"},
    {"gate": "top1"},
    {"experts": 1},
    {"pool": "modality_mean"},
    {"segment": 60},
    {"segment": 64},
    {"segment": 128},
    {"channels": 2, "classes": 3},
]


def build(**options) -> Mad:
    """The small network on 4 patches and 7,680 values, its zero layers filled with noise."""
    torch.manual_seed(0)
    network = mad_small(**{"image_size": 32, "series_length": 7680, **options})
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
    return network


def batch(count=4, channels=1):
    generator = torch.Generator().manual_seed(1)
    return RecordingBatch(
        image=torch.rand(count, 3, 32, 32, generator=generator),
        series=torch.rand(count, channels, 7680, generator=generator),
        label=torch.arange(count) % 2,
    )


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def on_meta(builder, **options):
    with torch.device("meta"):
        return builder(**options)


@pytest.mark.parametrize(
    ("builder", "weights", "published", "paper", "true"),
    [
        (mad_base, 75_832_589, (75.77e6, 318.53e9), 317.46, 468.05),
        (mad_small, 2_373_837, (2.38e6, 2.10e9), 2.104, 5.364),
    ],
)
def test_counts_are_the_published_ones_within_half_a_percent(
    builder, weights, published, paper, true
):
    network = on_meta(builder)
    assert parameters(network) == weights
    assert weights == pytest.approx(published[0], rel=0.005)
    assert flops(network) == pytest.approx(published[1], rel=0.005)
    assert flops(network) / 1e9 == pytest.approx(paper, abs=0.0005 if paper < 10 else 0.005)
    assert flops(network, "true") / 1e9 == pytest.approx(true, abs=0.0005 if true < 10 else 0.005)


def test_without_the_router_the_counts_are_the_specified_fits():
    assert parameters(on_meta(mad_base, gate="uniform")) == 75_826_437
    assert parameters(on_meta(mad_small, gate="uniform")) == 2_372_293


def test_attention_is_counted_as_torch_counts_it_unfused():
    from torch.utils.flop_counter import FlopCounterMode

    network = on_meta(mad_small)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.encoder.layers[0].attention(torch.zeros(2, 50, 192, device="meta"))
    assert counter.get_total_flops() == attention_flops(2, 50, 192)


def test_counting_does_not_touch_the_network_and_follows_the_batch():
    network = build().train()
    once, twice = flops(network), flops(network, batch=batch(2))
    assert twice == 2 * once
    assert flops(network, batch=replace(batch(1), series=None)) < once
    assert network.training
    assert not any(p.is_meta for p in (*network.parameters(), *network.buffers()))
    with pytest.raises(ConfigurationError, match="convention"):
        flops(network, "thop")


def test_top1_costs_as_much_as_one_expert_and_the_router():
    network, one = build(gate="top1"), build(experts=1)
    routers = 4 * 2 * 34 * 192 * 2  # layers, operations, tokens, channels, experts
    assert flops(network) == flops(one) + routers


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_variant_trains_every_weight(options):
    network = build(**options).train()
    inputs = batch(channels=options.get("channels", 1))
    output = network(inputs)
    assert output.logits.shape == (4, options.get("classes", 5))
    assert set(output.by_modality) == set(network.modalities) == set(output.flow_nll)
    views = network.project(output, ("joint", "image", "series"))
    assert views.shape == (4, 1 + len(network.modalities), 128)
    loss = F.cross_entropy(output.logits, inputs.label)
    loss = loss + SupervisedContrast()(views, inputs.label)
    loss = loss + 0.01 * torch.stack(list(output.flow_nll.values())).mean()
    entropies = [g.token_entropy.sum() + g.usage_entropy.sum() for g in output.gates.values()]
    (loss + sum(entropies)).backward()
    chosen = sum(gates.share for gates in output.gates.values()) > 0  # (L, E)
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        idle = options.get("gate") == "top1" and any(
            f"layers.{layer}.mixture.experts.{expert}." in name
            for layer, expert in (~chosen).nonzero().tolist()
        )
        assert idle or weight.grad.abs().sum() > 0, name


def test_likelihood_in_training_moves_the_flows_alone():
    network = build().train()
    torch.stack(list(network(batch()).flow_nll.values())).sum().backward()
    moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert moved == {"flows"}
    assert network(batch(), density=False).flow_nll == {}


def test_in_evaluation_the_likelihood_is_that_of_the_tokens_themselves():
    network = build().eval()
    with torch.no_grad():
        first, second = network(batch()), network(batch(), density=False)
    for name, value in first.flow_nll.items():
        assert torch.equal(value, second.flow_nll[name])
        back = network.flows[name].inverse(first.aligned[name])
        torch.testing.assert_close(back, first.embedded[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("absent", ["image", "series"])
@pytest.mark.parametrize("pool", ["mean", "modality_mean"])
def test_an_absent_modality_contributes_nothing(absent, pool):
    network = build(pool=pool).eval()
    present = "series" if absent == "image" else "image"
    with torch.no_grad():
        output = network(replace(batch(), **{absent: None}))
    assert set(output.by_modality) == set(output.gates) == set(output.aligned) == {present}
    torch.testing.assert_close(output.pooled, output.by_modality[present])
    assert network.project(output, ("joint", "image", "series")).shape[1] == 2


def test_a_modality_that_the_network_does_not_look_at_is_ignored():
    network = build(modalities=("image",)).eval()
    with torch.no_grad():
        output, alone = network(batch()), network(replace(batch(), series=None))
    assert torch.equal(output.logits, alone.logits)
    assert network.example_batch().series is None


def test_nothing_present_is_an_error():
    with pytest.raises(DataError, match="takes nothing else"):
        build()(RecordingBatch(image=None, series=None))


@pytest.mark.parametrize("gate", ["softmax", "top1"])
def test_a_sample_does_not_depend_on_its_batch(gate):
    network, inputs = build(gate=gate).eval(), batch(5)
    with torch.no_grad():
        together = network(inputs)
        for n in range(5):
            alone = network(
                RecordingBatch(image=inputs.image[n : n + 1], series=inputs.series[n : n + 1])
            )
            torch.testing.assert_close(alone.logits[0], together.logits[n], atol=1e-5, rtol=1e-4)
            for name, value in alone.flow_nll.items():
                torch.testing.assert_close(value[0], together.flow_nll[name][n])


def test_pools_weigh_tokens_or_modalities():
    with torch.no_grad():
        tokens, halves = (build(pool=p).eval()(batch()) for p in ("mean", "modality_mean"))
    image, series = tokens.by_modality["image"], tokens.by_modality["series"]
    torch.testing.assert_close(tokens.pooled, (4 * image + 30 * series) / 34)
    torch.testing.assert_close(halves.pooled, (image + series) / 2)


def test_weights_can_be_saved_and_loaded(tmp_path):
    from safetensors.torch import load_file, save_file

    network = build().eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    other = mad_small(image_size=32, series_length=7680).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(other(batch()).logits, network(batch()).logits)


def test_the_series_flow_streams_on_top_of_the_embedding():
    network, series = build().eval(), batch(1).series
    embedding, flow = network.embeddings["series"], network.flows["series"]
    with torch.no_grad():
        whole = flow(embedding(series))[0]
        state, parts = None, []
        for number, piece in enumerate(series.split(10 * embedding.segment, dim=2)):
            mapped, _, state = flow.stream(embedding(piece, start=10 * number), state)
            parts.append(mapped)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_series_longer_and_shorter_than_usual_are_taken():
    embedding = SegmentEmbedding(width=8, segment=4, length=40)
    series = torch.rand(2, 1, 80)
    torch.testing.assert_close(embedding(series)[:, :5], embedding(series[..., :20]))
    torch.testing.assert_close(embedding(series)[:, 15:], embedding(series[..., 60:], start=15))


def test_positions_are_all_different_and_bounded():
    for positions in (sincos_1d(2560, 64), sincos_2d(16, 16, 64)):
        assert len(positions.unique(dim=0)) == len(positions)
        assert positions.abs().max() <= 1
    grid = sincos_2d(3, 4, 8).view(3, 4, 8)
    torch.testing.assert_close(grid[0, :, 4:], grid[2, :, 4:])
    torch.testing.assert_close(grid[:, 0, :4], grid[:, 3, :4])


def test_wrong_shapes_are_said_in_a_sentence():
    network = build()
    with pytest.raises(DataError, match="32 x 32"):
        network(RecordingBatch(image=torch.rand(1, 3, 64, 64), series=None))
    with pytest.raises(DataError, match="whole segments of 256"):
        network(RecordingBatch(image=None, series=torch.rand(1, 1, 7000)))
    with pytest.raises(DataError, match="2 channels"):
        network(RecordingBatch(image=None, series=torch.rand(1, 2, 7680)))


@pytest.mark.parametrize(
    "options",
    [
        {"modalities": ()},
        {"modalities": ("image", "sound")},
        {"flow": "spline"},
        {"gate": "hard"},
        {"experts": 0},
        {"pool": "max"},
        {"segment": 7},
        {"image_size": 33},
    ],
    ids=str,
)
def test_unknown_options_are_refused(options):
    with pytest.raises(ConfigurationError):
        build(**options)


def test_builders_are_found_by_name():
    assert {"mad_base", "mad_small"} <= {m.name for m in models("classifier")}
    assert find_model("mad_small").builder is mad_small
