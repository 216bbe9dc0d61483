"""The vision transformer against torch's own, its positions, and what is left out of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chiasm.detection.layers.vision_transformer import Block, VisionTransformer
from chiasm.errors import ConfigurationError

SMALL = {"depth": 4, "width": 24, "heads": 3, "patch": 4, "grid": 5}


def small(*blocks, seed=0):
    """A small network in which every weight has an effect."""
    torch.manual_seed(seed)
    network = VisionTransformer(blocks=blocks, **SMALL).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return network.requires_grad_(False)


def pictures(height=20, width=20):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_a_block_is_that_of_torch():
    torch.manual_seed(0)
    block = Block(width=24, heads=3)
    theirs = nn.TransformerEncoderLayer(
        24, 3, 96, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {
        "norm1": "norm1",
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj": "attn.proj",
        "norm2": "norm2",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }
    state = theirs.state_dict()
    for prefix, name in names.items():
        for kind in ("weight", "bias"):
            key = prefix + kind if prefix.endswith("_") else f"{prefix}.{kind}"
            state[key] = block.state_dict()[f"{name.removesuffix('.')}.{kind}"]
    theirs.load_state_dict(state)
    tokens = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(tokens), theirs(tokens), rtol=1e-4, atol=1e-4)
    # Without its branches a block hands its tokens on.
    nn.init.zeros_(block.ls1.gamma)
    nn.init.zeros_(block.ls2.gamma)
    assert torch.equal(block(tokens), tokens)


def test_the_published_size():
    network = VisionTransformer(blocks=(12,))
    assert sum(value.numel() for value in network.parameters()) == 22_056_192


def test_positions_are_the_trained_ones_at_their_own_grid_and_interpolated_at_others():
    network = small(2)
    trained = network.pos_embed[0, 1:].reshape(5, 5, 24).permute(2, 0, 1)[None]
    assert torch.equal(network.positions(5, 5), trained)
    larger = network.positions(15, 15)
    # The middle of three cells is the middle of the trained one.
    torch.testing.assert_close(larger[..., 1::3, 1::3], trained)
    network.pos_embed.fill_(0.5)
    torch.testing.assert_close(network.positions(3, 8), torch.full((1, 24, 3, 8), 0.5))


def test_a_map_lies_as_its_picture_lies():
    # Without positions nothing but a patch's place tells where it is: mirrored patches, mirrored
    # maps.
    network = small(1, 3)
    network.pos_embed.zero_()
    images = pictures(height=12, width=28)
    patches = images.unflatten(3, (7, 4))
    mirrored = patches.flip(3).flatten(3)
    maps, flipped = network(images), network(mirrored)
    assert {block: tuple(value.shape) for block, value in maps.items()} == {
        1: (2, 24, 3, 7),
        3: (2, 24, 3, 7),
    }
    for block, value in maps.items():
        torch.testing.assert_close(flipped[block], value.flip(3), rtol=1e-4, atol=1e-5)


def test_blocks_behind_the_deepest_that_is_read_do_not_exist():
    whole, pruned = small(2, 3, 4), small(2, 3, seed=1)
    assert len(pruned.blocks) == 3
    assert not any(name.startswith("norm.") for name in pruned.state_dict())
    pruned.load_state_dict({name: whole.state_dict()[name] for name in pruned.state_dict()})
    maps, fewer = whole(pictures()), pruned(pictures())
    assert list(fewer) == [2, 3]
    assert all(torch.equal(value, maps[block]) for block, value in fewer.items())
    # The last block of all is normed.
    plain = (maps[4].permute(0, 2, 3, 1) - whole.norm.bias) / whole.norm.weight
    torch.testing.assert_close(plain.mean(dim=3), torch.zeros(2, 5, 5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("blocks", [(), (0, 2), (2, 5), (3, 2), (2, 2)])
def test_blocks_that_there_are_not_are_told(blocks):
    with pytest.raises(ConfigurationError, match=r"blocks is .* from 1 to 4 in ascending order"):
        VisionTransformer(blocks=blocks, **SMALL)


class Graph(nn.Module):
    """The maps as a tuple, as graphs give them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs):
        return tuple(self.network(*inputs).values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported_it_computes_the_same_for_any_number_of_pictures(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    from chiasm.deploy.graph_files import write_onnx

    network, images = small(2, 4), pictures(height=28, width=28)  # another grid than the trained
    write_onnx(
        Graph(network).eval(),
        [images],
        tmp_path / "graph.onnx",
        inputs=["rgb"],
        outputs=["second", "fourth"],
        dynamic=[{0: torch.export.Dim("batch")}],
    )
    session = onnxruntime.InferenceSession(
        str(tmp_path / "graph.onnx"), providers=["CPUExecutionProvider"]
    )
    for count in (1, 2, 3):
        shown = images[:1].repeat(count, 1, 1, 1)
        for value, output in zip(
            network(shown).values(), session.run(None, {"rgb": shown.numpy()})
        ):
            torch.testing.assert_close(torch.from_numpy(output), value, rtol=1e-3, atol=1e-4)
