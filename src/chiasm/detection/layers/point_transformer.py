"""Frozen features of points: a transformer over groups of neighbours, as Point-MAE trains it.

References:
    Pang et al., Masked Autoencoders for Point Cloud Self-supervised Learning, ECCV 2022; Wang et
    al., Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023, for its use on parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from chiasm.detection.layers.nearest import greedy_k_centres
from chiasm.detection.layers.pretrained_weights import check_fit, in_words, read_weight_file
from chiasm.errors import ConfigurationError

RANDOM = "random"
_PREFIXES = ("MAE_encoder.", "base_model.")  # of a pretrained and of a fine-tuned checkpoint
_GROUPS_AT_ONCE = 128  # so that the features of their points stay within tens of megabytes


class GroupEncoder(nn.Module):
    """A small PointNet: maps the points of a group, in any order, to one token.

    Args:
        width: of the token.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.lift = nn.Sequential(
            nn.Linear(3, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 256)
        )
        self.join = nn.Sequential(
            nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, width)
        )

    def forward(self, groups: Tensor) -> Tensor:
        """Map ``(G, K, 3)``, each group around its centre, to ``(G, width)``."""
        count, size = groups.shape[:2]
        lifted = self.lift(groups.flatten(0, 1)).view(count, size, -1)  # (g k) c -> g k c
        whole = lifted.amax(dim=1, keepdim=True).expand(-1, size, -1)
        joined = self.join(torch.cat([whole, lifted], dim=2).flatten(0, 1))
        return joined.view(count, size, -1).amax(dim=1)


class PointTransformer(nn.Module):
    """Tokens of groups of neighbouring points, after a third, two thirds and all of the blocks.

    Frozen. Farthest point sampling chooses the centres; the nearest points of each are its group.
    A token's position encoding is added before every block.

    Args:
        groups: centres, or all points where there are fewer.
        group_size: points of a group, the centre among them.
        width, depth, heads: of the transformer; depth a multiple of 3.
        weights_file: a Point-MAE checkpoint, pretrained or fine-tuned, as safetensors or torch
            file; only its encoder is read. ``"random"`` selects random weights, whose features
            hold little more than positions and distances.
        pretrained: False leaves weights as initialised, to be loaded from an artifact; no file
            is then read.

    Attributes:
        weights: origin of the weights, in words.
        channels: of a point's features, the width of each of the three depths.

    Raises:
        ConfigurationError: neither a file nor random weights are given, or a size is out of range.
        ArtifactError: the file is missing, truncated or of another architecture.
    """

    def __init__(
        self,
        *,
        groups: int = 1024,
        group_size: int = 128,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        weights_file: str | Path | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        for name, value, least in (("groups", groups, 3), ("group_size", group_size, 2)):
            if value < least:
                raise ConfigurationError(f"{name} is {value}; it must be at least {least}.")
        if pretrained and weights_file is None:
            raise ConfigurationError(
                "The point transformer's weights come with no package: give the path of a "
                "Point-MAE checkpoint as point_weights, or 'random' to do without."
            )
        self.groups = groups
        self.group_size = group_size
        self.depth = depth
        self.channels = (width,) * 3
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)  # random weights are always the same
            self.encoder = GroupEncoder(width=width)
            self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    width,
                    heads,
                    4 * width,
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(depth)
            )
            self.norm = nn.LayerNorm(width)
        self.weights = "point transformer, random weights"
        if pretrained and weights_file is not None and str(weights_file) != RANDOM:
            self._read(weights_file)
            self.weights = f"point transformer, {in_words(weights_file)}"
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PointTransformer:
        """Stay in evaluation mode: frozen features must not depend on the batch."""
        return super().train(False)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Map a cloud ``(M, 3)`` of any unit to centres ``(G, 3)`` and features ``(G, 3 x width)``.

        The cloud is scaled into the unit ball around its mean, as in pretraining.
        """
        middle = points - points.mean(dim=0)
        middle = middle / middle.norm(dim=1).amax().clamp(min=1e-9)
        first = int(middle.norm(dim=1).argmax())
        chosen = greedy_k_centres(middle, self.groups, first=first)
        cloud = middle.cpu().numpy()
        size = min(self.group_size, len(cloud))
        _, near = cKDTree(cloud).query(cloud[chosen.cpu().numpy()], k=size)
        numbers = torch.from_numpy(near.reshape(-1, size)).to(points.device)
        centres = middle[chosen]
        groups = middle[numbers] - centres[:, None]
        x = torch.cat([self.encoder(chunk) for chunk in groups.split(_GROUPS_AT_ONCE)])[None]
        position = self.place(centres)[None]
        depths = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x + position)
            if number * 3 % self.depth == 0:
                depths.append(self.norm(x)[0])
        return points[chosen], torch.cat(depths, dim=1)

    def _read(self, file: str | Path) -> None:
        stored = {_plain(name): value for name, value in read_weight_file(file).items()}
        state = self.state_dict()
        names = _published_names(self.depth)
        # Checkpoints store linear layers as convolutions of kernel size 1.
        expected = {
            theirs: state[ours][..., None] if _is_kernel(theirs) else state[ours]
            for ours, theirs in names.items()
        }
        check_fit(stored, expected, file=file, network="the point transformer of Point-MAE")
        for ours, theirs in names.items():
            state[ours].copy_(stored[theirs].view_as(state[ours]))
        for number in range(self.depth):
            # Checkpoints without a bias of queries, keys and values mean a bias of 0.
            source = stored.get(f"blocks.blocks.{number}.attn.qkv.bias")
            bias = state[f"blocks.{number}.self_attn.in_proj_bias"]
            bias.copy_(torch.zeros_like(bias) if source is None else source)


Points = Literal["fpfh", "picture", "transformer"]


def make_points(
    points: Points,
    *,
    geometry: bool = True,
    weights_file: str | None,
    groups: int,
    group_size: int,
    pretrained: bool,
) -> PointTransformer | Literal["fpfh", "picture"]:
    """Check the name of the point features and build the point transformer if it is named.

    Args:
        points: ``"fpfh"``: point histograms; ``"picture"``: frozen features of height and slopes;
            ``"transformer"``: a point transformer of the published size.
        geometry: whether the detector reads points at all; without, no transformer is built.
        weights_file, groups, group_size, pretrained: of the point transformer.

    Raises:
        ConfigurationError: another name, weights without a transformer, or the other way round.
        ArtifactError: the file is missing, truncated or of another architecture.
    """
    if points not in get_args(Points):
        raise ConfigurationError(f"points is {points!r}; it is 'fpfh', 'picture' or 'transformer'.")
    if points == "transformer" and geometry:
        return PointTransformer(
            groups=groups, group_size=group_size, weights_file=weights_file, pretrained=pretrained
        )
    if weights_file is not None:
        raise ConfigurationError(
            "point_weights are those of a point transformer; select it with points='transformer' "
            "and geometry among the modalities, or leave them out."
        )
    return "picture" if points == "picture" else "fpfh"


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _is_kernel(name: str) -> bool:
    return name.startswith("encoder.") and name.endswith((".0.weight", ".3.weight"))


def _published_names(depth: int) -> Mapping[str, str]:
    """Map our parameters' names to those of Point-MAE's checkpoints."""
    layers = {"norm": "norm"}
    for ours, theirs in (("lift", "first_conv"), ("join", "second_conv")):
        layers |= {f"encoder.{ours}.{n}": f"encoder.{theirs}.{n}" for n in (0, 1, 3)}
    layers |= {f"place.{n}": f"pos_embed.{n}" for n in (0, 2)}
    inner = {
        "norm1": "norm1",
        "norm2": "norm2",
        "self_attn.out_proj": "attn.proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }
    for number in range(depth):
        layers |= {f"blocks.{number}.{o}": f"blocks.blocks.{number}.{t}" for o, t in inner.items()}
    names = {f"{o}.{p}": f"{t}.{p}" for o, t in layers.items() for p in ("weight", "bias")}
    for ours, theirs in (("lift", "first_conv"), ("join", "second_conv")):
        names |= {
            f"encoder.{ours}.1.{p}": f"encoder.{theirs}.1.{p}"
            for p in ("running_mean", "running_var")
        }
    for number in range(depth):
        names[f"blocks.{number}.self_attn.in_proj_weight"] = (
            f"blocks.blocks.{number}.attn.qkv.weight"
        )
    return names
