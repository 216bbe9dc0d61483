"""The point transformer against the published formulas, on files in the published layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from chiasm.detection.layers.patches import interpolation, transformer_patches
from chiasm.detection.layers.point_transformer import PointTransformer
from chiasm.detection.models.crossmodal_mapping import crossmodal_mapping
from chiasm.detection.models.m3dm import m3dm
from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.samples import RGBDBatch

SMALL = {"groups": 20, "group_size": 8, "width": 24, "depth": 3, "heads": 4}


def checkpoint(*, width=24, depth=3, prefix="module.MAE_encoder."):
    """Random weights with the names and shapes that Point-MAE's checkpoints have."""
    generator = torch.Generator().manual_seed(3)

    def some(*shape):
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    def layer(name, outputs, *inputs):
        return {f"{name}.weight": some(outputs, *inputs), f"{name}.bias": some(outputs)}

    def norm(name, size):
        return {f"{name}.weight": 1 + 0.1 * some(size), f"{name}.bias": some(size)}

    tensors = {
        **layer("encoder.first_conv.0", 128, 3, 1),
        **layer("encoder.first_conv.3", 256, 128, 1),
        **layer("encoder.second_conv.0", 512, 512, 1),
        **layer("encoder.second_conv.3", width, 512, 1),
        **layer("pos_embed.0", 128, 3),
        **layer("pos_embed.2", width, 128),
        **norm("norm", width),
    }
    for name, size in (("first_conv", 128), ("second_conv", 512)):
        tensors |= norm(f"encoder.{name}.1", size)
        tensors |= {
            f"encoder.{name}.1.running_mean": 0.1 * some(size),
            f"encoder.{name}.1.running_var": 1 + some(size).abs(),
            f"encoder.{name}.1.num_batches_tracked": torch.tensor(5),
        }
    for number in range(depth):
        here = f"blocks.blocks.{number}"
        tensors |= norm(f"{here}.norm1", width) | norm(f"{here}.norm2", width)
        tensors[f"{here}.attn.qkv.weight"] = some(3 * width, width)
        tensors |= layer(f"{here}.attn.proj", width, width)
        tensors |= layer(f"{here}.mlp.fc1", 4 * width, width)
        tensors |= layer(f"{here}.mlp.fc2", width, 4 * width)
    tensors = {prefix + name: value for name, value in tensors.items()}
    return tensors | {"module.MAE_decoder.norm.weight": torch.ones(width)}


def reference(points, state, *, groups, group_size, width, depth, heads):
    """The paper's encoder, step by step in double precision; centres in the order of choice."""
    w = {name.removeprefix("module.MAE_encoder."): value.double() for name, value in state.items()}
    cloud = points.double() - points.double().mean(dim=0)
    cloud = cloud / cloud.norm(dim=1).max()
    chosen = [int(cloud.norm(dim=1).argmax())]
    while len(chosen) < groups:
        chosen.append(int(torch.cdist(cloud, cloud[chosen]).amin(dim=1).argmax()))
    centres = cloud[chosen]
    near = torch.cdist(centres, cloud).argsort(dim=1)[:, :group_size]
    x = (cloud[near] - centres[:, None]).transpose(1, 2)  # g k 3 -> g 3 k

    def conv(x, name):
        return F.conv1d(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def batch_norm(x, name):
        of = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *of)

    x = F.relu(batch_norm(conv(x, "encoder.first_conv.0"), "encoder.first_conv.1"))
    x = conv(x, "encoder.first_conv.3")
    x = torch.cat([x.amax(dim=2, keepdim=True).expand_as(x), x], dim=1)
    x = F.relu(batch_norm(conv(x, "encoder.second_conv.0"), "encoder.second_conv.1"))
    x = conv(x, "encoder.second_conv.3").amax(dim=2)

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x, name):
        return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"])

    place = linear(F.gelu(linear(centres, "pos_embed.0")), "pos_embed.2")
    out = []
    for number in range(depth):
        here = f"blocks.blocks.{number}"
        x = x + place
        qkv = linear(norm(x, f"{here}.norm1"), f"{here}.attn.qkv")
        q, k, v = qkv.view(groups, 3, heads, width // heads).permute(1, 2, 0, 3)
        share = torch.softmax(q @ k.transpose(1, 2) * (width // heads) ** -0.5, dim=2)
        mixed = (share @ v).transpose(0, 1).reshape(groups, width)
        x = x + linear(mixed, f"{here}.attn.proj")
        inner = F.gelu(linear(norm(x, f"{here}.norm2"), f"{here}.mlp.fc1"))
        x = x + linear(inner, f"{here}.mlp.fc2")
        if (number + 1) % (depth // 3) == 0:
            out.append(norm(x, "norm"))
    return points[chosen], torch.cat(out, dim=1)


def cloud(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    flat = torch.rand(count, 2, generator=generator)
    return torch.cat([flat, 0.5 + 0.1 * (7 * flat[:, :1]).sin()], dim=1) * 0.05


def organised(size=32):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    xyz = torch.stack([columns, rows, 300 + 3 * (columns / 5).sin()]).float()[None] / 1000
    foreground = torch.zeros(1, 1, size, size)
    foreground[:, :, 4:-4, 4:-4] = 1
    return RGBDBatch(
        rgb=torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)),
        geometry=torch.zeros(1, 3, size, size),
        foreground=foreground,
        xyz=xyz,
        valid=torch.ones(1, 1, size, size),
    )


@pytest.mark.parametrize("depth", [3, 6])
def test_a_published_checkpoint_gives_what_the_formulas_say(tmp_path, depth):
    sizes = SMALL | {"depth": depth}
    state = checkpoint(depth=depth)
    torch.save({"base_model": state, "epoch": 300}, tmp_path / "pretrain.pth")
    network = PointTransformer(**sizes, weights_file=tmp_path / "pretrain.pth")
    centres, features = network(cloud())
    expected_centres, expected = reference(cloud(), state, **sizes)
    assert torch.equal(centres, expected_centres)
    assert features.shape == (20, 72)
    # float32 against float64 through some twenty layers whose values are about 1.
    torch.testing.assert_close(features.double(), expected, rtol=1e-3, atol=1e-4)
    assert "pretrain.pth (sha256" in network.weights


def test_a_fine_tuned_checkpoint_and_safetensors_are_read_alike(tmp_path):
    save_file(checkpoint(prefix=""), tmp_path / "plain.safetensors")
    torch.save({"base_model": checkpoint()}, tmp_path / "pretrain.pth")
    first = PointTransformer(**SMALL, weights_file=tmp_path / "plain.safetensors")
    second = PointTransformer(**SMALL, weights_file=tmp_path / "pretrain.pth")
    assert torch.equal(first(cloud())[1], second(cloud())[1])


def test_features_depend_neither_on_unit_nor_place_nor_order(tmp_path):
    save_file(checkpoint(prefix=""), tmp_path / "w.safetensors")
    network = PointTransformer(**SMALL, weights_file=tmp_path / "w.safetensors")
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    centres, features = network(cloud())
    moved, same = network(cloud()[order] * 1000 + torch.tensor([3.0, -2.0, 9.0]))
    torch.testing.assert_close(moved, centres * 1000 + torch.tensor([3.0, -2.0, 9.0]))
    torch.testing.assert_close(same, features, rtol=1e-3, atol=1e-3)


def test_features_are_interpolated_as_in_pointnet_plus_plus():
    generator = np.random.default_rng(0)
    points, centres = generator.normal(size=(50, 3)), generator.normal(size=(9, 3))
    points[:4] = centres[:4]
    number, weight = interpolation(points, centres)
    for n in range(4, 50):
        distance = np.linalg.norm(points[n] - centres, axis=1)
        nearest = distance.argsort()[:3]
        assert number[n].tolist() == nearest.tolist()
        expected = distance[nearest] ** -2.0
        np.testing.assert_allclose(weight[n], expected / expected.sum(), rtol=1e-9)
    assert number[:4, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(weight[:4], np.tile([1.0, 0, 0], (4, 1)))


def test_a_patch_is_the_mean_of_its_interpolated_points():
    network = PointTransformer(**SMALL, weights_file="random")
    batch = organised()
    batch.valid[:, :, 20:24, 20:24] = 0
    patches = transformer_patches(batch, network, cells=8, step=1)
    assert patches.shape == (1, 72, 8, 8)
    measured = (batch.valid * batch.foreground)[0, 0] > 0.5
    points = batch.xyz[0][:, measured].T.contiguous()
    centres, features = network(points)
    number, weight = interpolation(points.numpy(), centres.numpy())
    expected_features = torch.einsum(
        "mk,mkc->mc", torch.from_numpy(weight).float(), features[number]
    )
    here = torch.zeros(32, 32, 72)
    here[measured] = expected_features
    expected = here[8:12, 12:16].mean(dim=(0, 1))
    torch.testing.assert_close(patches[0, :, 2, 3], expected, rtol=1e-4, atol=1e-5)
    # Without a point in it, a patch takes what a neighbour has.
    neighbours = [patches[0, :, r, c] for r, c in ((4, 5), (5, 4), (6, 5), (5, 6))]
    assert any(torch.equal(patches[0, :, 5, 5], one) for one in neighbours)


def test_parts_with_few_or_no_points_are_described_or_told():
    network = PointTransformer(**SMALL, weights_file="random")
    batch = organised()
    nothing = replace(batch, valid=torch.zeros_like(batch.valid))
    assert not transformer_patches(nothing, network, cells=8).any()
    few = torch.zeros_like(batch.valid)
    few[:, :, 10, 10:16] = 1
    some = transformer_patches(replace(batch, valid=few), network, cells=8, step=1)
    assert torch.isfinite(some).all() and some.any()
    with pytest.raises(DataError, match="needs 3D data"):
        transformer_patches(replace(batch, xyz=None), network, cells=8)


def test_weights_that_cannot_be_had_are_told(tmp_path):
    def fails(file, kind, words):
        with pytest.raises(kind, match=words):
            PointTransformer(**SMALL, weights_file=file)

    fails(None, ConfigurationError, "come with no package: give the path")
    fails(tmp_path / "none.pth", ArtifactError, "no file of weights")
    torch.save({"base_model": checkpoint()}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    fails(tmp_path / "half.pth", ArtifactError, "may be truncated")
    save_file(checkpoint(width=48), tmp_path / "wide.safetensors")
    fails(tmp_path / "wide.safetensors", ArtifactError, "another architecture .* another shape")
    save_file(checkpoint(depth=2), tmp_path / "flat.safetensors")
    fails(tmp_path / "flat.safetensors", ArtifactError, "blocks.blocks.2.norm1.weight")
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    fails(tmp_path / "other.safetensors", ArtifactError, "another architecture than the point")


@pytest.mark.parametrize("sizes", [{"groups": 2}, {"group_size": 1}])
def test_sizes_out_of_range_are_told(sizes):
    with pytest.raises(ConfigurationError, match="must be at least"):
        PointTransformer(**SMALL | sizes, weights_file="random")


@pytest.mark.parametrize("builder", [m3dm, crossmodal_mapping])
def test_baselines_take_it_and_say_which_weights_they_have(builder, tmp_path):
    few = {"points": "transformer", "point_groups": 12, "group_size": 4}
    with pytest.raises(ConfigurationError, match="'random' to do without"):
        builder(**few)
    detector = builder(**few, point_weights="random")
    assert "efficientnet-lite0" in detector.pretrained_weights
    assert "point transformer, random weights" in detector.pretrained_weights
    features = detector.extract_features(organised())
    relief = features["geometry" if builder is m3dm else "relief"]
    assert relief.shape == (1, 1152, 4, 4)
    # Built for an artifact, no file is looked for.
    again = builder(**few, point_weights=str(tmp_path / "gone.pth"), pretrained=False)
    again.load_state_dict(detector.state_dict())
    with pytest.raises(ConfigurationError, match="select it with points='transformer'"):
        builder(point_weights="random", pretrained=False)
