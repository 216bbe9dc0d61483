"""Baselines that remember: the Gaussian at each place, and joined features in a bank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chiasm.detection.layers.patches import fpfh_patches
from chiasm.detection.models.btf import btf
from chiasm.detection.models.pixel_gaussian import PixelGaussian
from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.samples import RGBDBatch


def batch(count=12, size=16):
    torch.manual_seed(1)
    foreground = torch.zeros(count, 1, size, size)
    foreground[:, :, 2:-2, 3:-3] = 1
    return RGBDBatch(
        rgb=torch.rand(count, 3, size, size),
        geometry=torch.rand(count, 3, size, size),
        foreground=foreground,
    )


def test_the_gaussian_is_the_explicit_one():
    inputs = batch()
    baseline = PixelGaussian(cells=16, modalities=("rgb",), prior=3.0, floor=0.1)
    features = baseline.extract_features(inputs)
    baseline.partial_fit("moments", features, torch.arange(12))
    baseline.finish_fit("moments")
    distances = baseline.predict(features).raw[:, 0].numpy()
    pixels = inputs.rgb.permute(0, 2, 3, 1).numpy().astype(float)
    inside = inputs.foreground[:, 0].numpy() > 0
    every = pixels[inside]
    grand, spread = every.mean(0), np.cov(every.T, bias=True)
    for row, column in ((4, 5), (9, 8)):
        values = pixels[:, row, column]
        mean = (values.sum(0) + 3 * grand) / (len(values) + 3)
        second = values.T @ values + 3 * (spread + np.outer(grand, grand))
        covariance = second / (len(values) + 3) - np.outer(mean, mean)
        covariance += 0.1 * np.diag(np.diag(spread))
        for number in range(3):
            offset = values[number] - mean
            expected = np.sqrt(offset @ np.linalg.inv(covariance) @ offset)
            assert distances[number, row, column] == pytest.approx(expected, rel=1e-3)
    assert (distances[:, 0] == 0).all()


def test_a_place_that_no_normal_covers_takes_the_whole_objects_gaussian():
    inputs = batch()
    baseline = PixelGaussian(cells=16, modalities=("rgb",))
    baseline.partial_fit("moments", baseline.extract_features(inputs), torch.arange(12))
    baseline.finish_fit("moments")
    assert torch.equal(baseline.mean[0, 0], baseline.mean[0, 15])
    assert torch.isfinite(baseline.whitening).all()


def test_a_bank_that_is_too_small_or_a_part_without_points_is_told():
    with pytest.raises(ConfigurationError, match=r"Set bank_mb to"):
        btf(bank_mb=0.001, pretrained=False)
    with pytest.raises(DataError, match=r"needs? 3D data"):
        fpfh_patches(batch(), cells=4)


def test_patches_without_points_take_what_the_nearest_one_has():
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    xyz = torch.stack([columns, rows, 50 + (columns / 8).sin()])[None] / 100
    valid = torch.ones(1, 1, 32, 32)
    whole = replace(batch(1, 32), foreground=torch.ones(1, 1, 32, 32), xyz=xyz, valid=valid)
    hole = valid.clone()
    hole[:, :, :8, 24:] = 0
    before = fpfh_patches(whole, cells=4, step=1)
    after = fpfh_patches(replace(whole, valid=hole), cells=4, step=1)
    assert after[0, :, 0, 3].abs().sum() > 0
    assert any(torch.equal(after[0, :, 0, 3], after[0, :, r, c]) for r, c in ((0, 2), (1, 3)))
    torch.testing.assert_close(after[0, :, 3, 0], before[0, :, 3, 0])
    nothing = fpfh_patches(replace(whole, valid=torch.zeros_like(valid)), cells=4, step=1)
    assert (nothing == 0).all()


def test_one_sensor_is_enough_for_a_bank():
    colour = btf(modalities=("rgb",), pretrained=False)
    points = btf(modalities=("geometry",), pretrained=False)
    assert colour.bank.dimension == 176
    assert points.bank.dimension == 33
    assert points.pretrained_weights is None
    assert points.modalities == ("geometry",)


def test_weights_that_are_missing_truncated_or_of_another_network_are_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no backbone 'resnet'"):
        btf(backbone="resnet")
    with pytest.raises(ArtifactError, match="no file of weights"):
        btf(weights_file=str(tmp_path / "none.safetensors"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10\x00")
    with pytest.raises(ArtifactError, match="truncated"):
        btf(weights_file=str(broken))
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtifactError, match="another architecture"):
        btf(weights_file=str(tmp_path / "other.safetensors"))
