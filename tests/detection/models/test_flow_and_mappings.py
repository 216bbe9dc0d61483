"""The flow of a baseline, its positions, and statistics over patches."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.layers.patches import FPFH, Standardisation, scatter
from chiasm.detection.models.asymmetric_student_teacher import (
    ConvolutionalFlow,
    position_encoding,
    position_nll,
)
from chiasm.detection.models.crossmodal_mapping import crossmodal_mapping
from chiasm.errors import ConfigurationError, DataError


def flow(channels=6):
    torch.manual_seed(0)
    detector = ConvolutionalFlow(channels=channels, hidden=8, couplings=3, position=4)
    for parameter in detector.parameters():  # it begins as the identity, which proves nothing
        torch.nn.init.normal_(parameter, 0, 0.2)
    return detector


@pytest.mark.parametrize("channels", [4, 6, 7])
def test_the_flow_is_invertible(channels):
    detector, x = flow(channels), torch.randn(2, channels, 5, 4)
    latent, _ = detector(x)
    assert not torch.allclose(latent, x, atol=0.1)
    torch.testing.assert_close(detector.inverse(latent), x, rtol=1e-5, atol=1e-5)


def test_the_log_determinant_is_autograds():
    detector = flow(4).double()
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    _, log_det = detector(x)
    jacobian = torch.autograd.functional.jacobian(lambda y: detector(y)[0].flatten(), x)
    expected = torch.linalg.slogdet(jacobian.reshape(24, 24)).logabsdet
    torch.testing.assert_close(log_det.sum(), expected)


def test_a_new_flow_is_a_permutation():
    detector = ConvolutionalFlow(channels=6, hidden=4)
    x = torch.randn(1, 6, 3, 3)
    latent, log_det = detector(x)
    assert torch.equal(log_det, torch.zeros_like(log_det))
    torch.testing.assert_close(latent.sort(dim=1).values, x.sort(dim=1).values)


def test_the_likelihood_is_least_at_the_origin():
    zero = torch.zeros(1, 3, 2, 2)
    assert (position_nll(zero, torch.zeros(1, 2, 2)) == 0).all()
    assert (position_nll(zero + 1, torch.zeros(1, 2, 2)) == 0.5).all()


def test_every_position_has_a_code_of_its_own():
    code = position_encoding(torch.zeros(1, 3, 6, 5), 8)[0].flatten(1).T
    assert code.shape == (30, 8)
    assert torch.cdist(code, code).fill_diagonal_(9).min() > 0.05


def test_standardisation_is_that_of_all_rows_at_once():
    rows = torch.randn(50, 5) * torch.tensor([1.0, 3, 9, 0.1, 2]) + 4
    scale = Standardisation((3, 2))
    scale.add(rows[:20])
    scale.add(rows[20:])
    scale.finish()
    share = torch.tensor([3.0, 3, 3, 2, 2]) ** -0.5
    expected = (rows - rows.mean(0)) / rows.std(0, correction=0) * share
    torch.testing.assert_close(scale(rows), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(DataError, match="nothing to fit"):
        Standardisation((3,)).finish()


def test_the_bins_of_a_histogram_have_one_deviation():
    rows = torch.randn(200, FPFH) * torch.linspace(0.1, 9, FPFH)
    scale = Standardisation((FPFH,))
    scale.add(rows)
    scale.finish()
    assert scale.weight.unique().numel() == 1
    # The group as a whole counts as one: its squared lengths have the mean 1.
    assert scale(rows).square().sum(dim=1).mean().item() == pytest.approx(1, rel=1e-3)


def test_rows_go_back_to_their_places():
    inside = torch.tensor([[[True, False], [False, True]], [[False, True], [False, False]]])
    out = scatter(torch.tensor([1.0, 2, 3]), inside)
    assert out.tolist() == [[[[1, 0], [0, 2]]], [[[0, 3], [0, 0]]]]


def test_a_mapping_needs_both_sensors():
    with pytest.raises(ConfigurationError, match="needs rgb and geometry"):
        crossmodal_mapping(modalities=("rgb",), pretrained=False)
    with pytest.raises(ConfigurationError, match="'fpfh', 'picture' or 'transformer'"):
        crossmodal_mapping(points="mesh", pretrained=False)
