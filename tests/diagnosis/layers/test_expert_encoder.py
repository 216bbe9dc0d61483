"""What a mixture of experts is and is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from chiasm.diagnosis.layers.expert_encoder import (
    ExpertEncoder,
    ExpertMixture,
    SelfAttention,
    gate_statistics,
)
from chiasm.errors import ConfigurationError


def tokens(count=2, length=7, width=8):
    return torch.randn(count, length, width, generator=torch.Generator().manual_seed(3))


def mixture(gate="softmax", experts=2):
    torch.manual_seed(0)
    return ExpertMixture(width=8, hidden=6, experts=experts, gate=gate)


def test_uniformly_averaged_experts_are_one_wide_expert():
    several, wide = mixture("uniform"), ExpertMixture(width=8, hidden=12, experts=1)
    first, second = several.experts
    with torch.no_grad():
        inner, outer = wide.experts[0][0], wide.experts[0][2]
        inner.weight.copy_(torch.cat([first[0].weight, second[0].weight]))
        inner.bias.copy_(torch.cat([first[0].bias, second[0].bias]))
        outer.weight.copy_(torch.cat([first[2].weight, second[2].weight], dim=1) / 2)
        outer.bias.copy_((first[2].bias + second[2].bias) / 2)
    torch.testing.assert_close(several(tokens())[0], wide(tokens())[0])


def test_softmax_gate_weighs_every_expert():
    experts = mixture()
    out, gates = experts(tokens())
    torch.testing.assert_close(gates.sum(dim=-1), torch.ones(2, 7))
    expected = sum(gates[..., e, None] * experts.experts[e](tokens()) for e in range(2))
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("bias", [0.0, 50.0])
def test_top1_runs_the_strongest_expert_times_its_gate(bias):
    experts = mixture("top1", experts=3)
    with torch.no_grad():
        experts.router.bias[1] += bias  # with a large one the other experts get no token
    out, gates = experts(tokens())
    for n in range(2):
        for t in range(7):
            e = int(gates[n, t].argmax())
            expected = gates[n, t, e] * experts.experts[e](tokens()[n, t])
            torch.testing.assert_close(out[n, t], expected)
    out.sum().backward()
    assert all(p.grad is not None for p in experts.parameters())


def test_one_expert_and_the_uniform_gate_have_no_router():
    assert mixture(experts=1).router is None
    assert mixture("uniform").router is None


def test_attention_equals_torchs():
    attention = SelfAttention(width=8, heads=2)
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(attention.qkv.weight)
        reference.in_proj_bias.copy_(attention.qkv.bias)
        reference.out_proj.weight.copy_(attention.out.weight)
        reference.out_proj.bias.copy_(attention.out.bias)
    x = tokens()
    torch.testing.assert_close(attention(x), reference(x, x, x, need_weights=False)[0])


def test_encoder_divides_tokens_and_gates_by_modality():
    encoder = ExpertEncoder(width=8, depth=3, heads=2, hidden=6)
    parts, gates = encoder({"image": tokens(length=4), "series": tokens(length=7)})
    assert parts["image"].shape == (2, 4, 8)
    assert parts["series"].shape == (2, 7, 8)
    for statistics in gates.values():
        assert statistics.usage.shape == statistics.share.shape == (3, 2)
        torch.testing.assert_close(statistics.share.sum(dim=1), torch.ones(3))
        assert (statistics.token_entropy <= statistics.usage_entropy + 1e-6).all()
        assert (statistics.usage_entropy <= math.log(2) + 1e-6).all()


def test_entropies_of_gates_that_are_known():
    decided = torch.eye(2)[torch.tensor([0, 1, 0, 1])].expand(1, 1, 4, 2)  # (L, N, T, E)
    collapsed = torch.eye(2)[torch.zeros(4, dtype=torch.int64)].expand(1, 1, 4, 2)
    undecided = torch.full((1, 1, 4, 2), 0.5)
    expected = {
        "balanced": (decided, 0, math.log(2)),
        "collapsed": (collapsed, 0, 0),
        "undecided": (undecided, math.log(2), math.log(2)),
    }
    for gates, token, usage in expected.values():
        statistics = gate_statistics(gates)
        entropies = torch.stack([statistics.token_entropy, statistics.usage_entropy])
        torch.testing.assert_close(entropies, torch.tensor([[token], [usage]]).float())


def test_entropies_move_the_router():
    experts = mixture("top1")
    _, gates = experts(tokens())
    statistics = gate_statistics(gates[None])
    (statistics.token_entropy + statistics.usage_entropy).sum().backward()
    assert experts.router.weight.grad.abs().sum() > 0


def test_an_unknown_gate_is_refused():
    with pytest.raises(ConfigurationError, match="top1"):
        ExpertMixture(width=8, hidden=6, gate="hard")
    with pytest.raises(ConfigurationError, match="heads"):
        SelfAttention(width=8, heads=3)
