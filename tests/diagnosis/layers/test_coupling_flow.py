"""Properties of the flows, and parity with zuko."""

from __future__ import annotations

import math

import pytest
import torch
import zuko
from torch import nn

from chiasm.diagnosis.layers.coupling_flow import (
    IdentityFlow,
    channel_permutations,
    flow_nll,
    image_flow,
    signal_flow,
)
from chiasm.errors import ConfigurationError

WIDTH = 8


def awake(flow, *, strength=0.2):
    """The flow with random weights everywhere; fresh ones are the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.copy_(strength * torch.randn(weight.shape, generator=generator))
    return flow


@pytest.fixture(params=["image", "signal"])
def flow(request):
    build = image_flow if request.param == "image" else signal_flow
    return build(width=WIDTH, hidden=12)


def tokens(count=3, length=9, *, dtype=torch.float32):
    return torch.randn(
        count, length, WIDTH, generator=torch.Generator().manual_seed(1), dtype=dtype
    )


def test_a_fresh_flow_changes_nothing(flow):
    mapped, log_det = flow(tokens())
    assert torch.equal(mapped, tokens())
    assert torch.equal(log_det, torch.zeros(3))


def test_inverse_undoes_forward_in_float32(flow):
    mapped, _ = awake(flow)(tokens())
    assert not torch.allclose(mapped, tokens(), atol=0.1)
    torch.testing.assert_close(flow.inverse(mapped), tokens(), atol=1e-5, rtol=1e-5)


def test_log_determinant_is_that_of_the_jacobian(flow):
    x = tokens(1, 5)
    _, log_det = awake(flow)(x)
    jacobian = torch.autograd.functional.jacobian(lambda t: flow(t)[0], x)
    _, expected = torch.linalg.slogdet(jacobian.reshape(5 * WIDTH, 5 * WIDTH))
    torch.testing.assert_close(log_det[0], expected, atol=1e-4, rtol=1e-4)


def test_every_channel_is_changed_by_every_two_couplings():
    first, second, third = channel_permutations(WIDTH, 3, seed=4)
    changed = set(first[WIDTH // 2 :].tolist()) | set(second[WIDTH // 2 :].tolist())
    assert changed == set(range(WIDTH)) == set(third.tolist())
    again = channel_permutations(WIDTH, 3, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(again, (first, second, third)))
    assert not torch.equal(channel_permutations(WIDTH, 1, seed=5)[0], first)


def test_the_future_leaves_the_past_of_a_series_untouched():
    flow, x = awake(signal_flow(width=WIDTH, hidden=12)), tokens(1, 20)
    later = x.clone()
    later[:, 13:] += 1
    before, after = flow(x)[0], flow(later)[0]
    torch.testing.assert_close(after[:, :13], before[:, :13], atol=0, rtol=0)
    assert (after[:, 13] != before[:, 13]).any()


def test_a_token_of_a_series_sees_ten_before_it():
    flow, x = awake(signal_flow(width=WIDTH, hidden=12)), tokens(1, 20).requires_grad_()
    flow(x)[0][0, 15].sum().backward()
    seen = x.grad[0].abs().sum(dim=1) > 0
    assert seen.nonzero().flatten().tolist() == list(range(5, 16))


def test_tokens_of_a_picture_do_not_see_each_other():
    flow, x = awake(image_flow(width=WIDTH, hidden=12)), tokens()
    torch.testing.assert_close(flow(x)[0][:, 4:5], flow(x[:, 4:5])[0])


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 1, 3, 1]])
def test_a_stream_equals_the_whole(flow, pieces):
    awake(flow)
    whole, log_det = flow(tokens())
    state, parts, total = None, [], torch.zeros(3)
    for piece in tokens().split(pieces, dim=1):
        mapped, more, state = flow.stream(piece, state)
        parts.append(mapped)
        total = total + more
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(total, log_det)


def test_scales_stay_within_their_bounds_whatever_the_weights(flow):
    awake(flow, strength=100.0)
    mapped, log_det = flow(tokens())
    couplings = len(flow.couplings)
    assert torch.isfinite(mapped).all()
    assert (log_det.abs() <= 2 * couplings * 9 * WIDTH / 2 + 1e-3).all()


def test_half_precision_gives_finite_float32_log_determinants(flow):
    mapped, log_det = awake(flow).bfloat16()(tokens().bfloat16())
    assert mapped.dtype == torch.bfloat16
    assert log_det.dtype == torch.float32
    assert torch.isfinite(log_det).all()


def test_odd_widths_are_refused():
    with pytest.raises(ConfigurationError, match="odd"):
        image_flow(width=7, hidden=4)


def test_likelihood_is_that_of_the_change_of_variables(flow):
    mapped, log_det = awake(flow)(tokens())
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = -(normal.log_prob(mapped).sum(dim=(1, 2)) + log_det) / (9 * WIDTH)
    left_out = math.log(2 * math.pi) / 2
    torch.testing.assert_close(flow_nll(mapped, log_det) + left_out, expected)


def test_the_identity_flow_is_one():
    x = tokens()
    mapped, log_det = IdentityFlow()(x)
    assert mapped is x
    assert IdentityFlow().inverse(x) is x
    assert torch.equal(log_det, torch.zeros(3))


def _zuko_twin(coupling):
    """zuko's affine coupling with the same division of channels and the same weights.

    zuko lists the channels of each half in rising order, shift before scale, and bounds the scale
    by another function, which is undone here.
    """

    def affine(shift, raw):
        scale = 2 * torch.tanh(raw / 2)
        unbounded = scale / (1 - (scale / math.log(1e-3)).abs())
        return zuko.transforms.MonotonicAffineTransform(shift, unbounded)

    half = WIDTH // 2
    constant, changed = coupling.permutation.split(half)
    mask = torch.zeros(WIDTH, dtype=torch.bool)
    mask[constant] = True
    hidden = coupling.conditioner.expand.out_features
    twin = zuko.flows.coupling.GeneralCouplingTransform(
        WIDTH, mask=mask, univariate=affine, hidden_features=(hidden,), activation=nn.GELU
    )
    rows_a, rows_b = constant.argsort(), changed.argsort()
    conditioner, reference = coupling.conditioner, twin.hyper
    with torch.no_grad():
        reference[0].weight.copy_(conditioner.expand.weight[:, rows_a])
        reference[0].bias.copy_(conditioner.expand.bias)
        for shared, copied in (
            (conditioner.contract.weight, reference[2].weight),
            (conditioner.contract.bias, reference[2].bias),
        ):
            scale, shift = shared[:half][rows_b], shared[half:][rows_b]
            copied.copy_(torch.stack([shift, scale], dim=1).flatten(0, 1))
    return twin()


def test_flow_equals_zukos_with_the_same_weights():
    flow, x = awake(image_flow(width=WIDTH, hidden=12)), tokens()
    transforms = [_zuko_twin(coupling) for coupling in flow.couplings]
    expected, total = x, torch.zeros(3)
    for transform in transforms:
        expected, more = transform.call_and_ladj(expected)
        total = total + more.sum(dim=1)
    mapped, log_det = flow(x)
    torch.testing.assert_close(mapped, expected)
    torch.testing.assert_close(log_det, total)
    for transform in reversed(transforms):
        expected = transform.inv(expected)
    torch.testing.assert_close(flow.inverse(mapped), expected, atol=1e-5, rtol=1e-5)


def test_flow_has_as_many_weights_as_zukos():
    flow = image_flow(width=96, hidden=256)
    reference = zuko.flows.NICE(96, transforms=3, randmask=True, hidden_features=(256,))
    assert sum(p.numel() for p in flow.parameters()) == sum(
        p.numel() for p in reference.parameters()
    )
