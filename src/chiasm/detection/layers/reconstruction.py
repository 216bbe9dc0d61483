"""The reconstruction network: one encoder-decoder per modality, without skip connections."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from chiasm.fusion.recomputation import run_layer

ENCODER = ("E1", "E2", "E3", "E4", "E5")
DECODER = ("D1", "D2", "D3", "D4")


def stage_channels(width: int) -> dict[str, int]:
    """Return the channels of every stage: 128 for E1 and 1024 for E5 at width 128."""
    multiples = dict(zip(ENCODER + DECODER, (1, 2, 4, 8, 8, 4, 2, 1, 1)))
    return {stage: width * multiple for stage, multiple in multiples.items()}


def stage_strides(stem: int = 1, bottleneck_stride: int | None = None) -> dict[str, int]:
    """Return input pixels per pixel of every stage.

    Args:
        stem: pixel-unshuffle factor.
        bottleneck_stride: that no stage exceeds; None is 16 times the stem.
    """
    powers = dict(zip(ENCODER + DECODER, (0, 1, 2, 3, 4, 3, 2, 1, 0)))
    deepest = bottleneck_stride or 16 * stem
    return {stage: min(stem * 2**power, deepest) for stage, power in powers.items()}


class ReconstructionBranch(nn.Module):
    """Encoder E1..E5 and decoder D1..D4 with output R, EasyNet's multi-modality reconstruction.

    Encoder block: (3x3 conv, BN, ReLU) twice, 2x2 max-pool between blocks. Decoder stage: bilinear
    x2 (corners aligned), 3x3 conv i->i, BN, ReLU, then i->i and i->o with BN and ReLU each. Output:
    3x3 conv, linear. Weights N(0, 0.02), batch norm N(1, 0.02).

    Args:
        width: channels of E1; 128 in the paper.
        channels: channels of the input and of its reconstruction.
        stem: pixel-unshuffle factor in front of E1 (and pixel-shuffle after R); 1 in the paper.
        bottleneck_stride: input pixels per pixel of E5; 16 in the paper. Where a stem would make it
            larger, the last stages are not pooled. None pools between all stages.

    Attributes:
        recompute: whether activations are computed again for the gradients, see ``run_layer``.

    References:
        Chen et al., EasyNet, ACM MM 2023.
    """

    def __init__(
        self,
        *,
        width: int = 128,
        channels: int = 3,
        stem: int = 1,
        bottleneck_stride: int | None = None,
    ) -> None:
        super().__init__()
        out = stage_channels(width)
        strides = stage_strides(stem, bottleneck_stride)
        outer = channels * stem * stem
        self.unshuffle = nn.PixelUnshuffle(stem) if stem > 1 else nn.Identity()
        self.shuffle = nn.PixelShuffle(stem) if stem > 1 else nn.Identity()
        self.pool = nn.MaxPool2d(2)
        self.pooled = {b for a, b in pairwise(ENCODER) if strides[b] > strides[a]}
        self.recompute = False
        self.stages = nn.ModuleDict()
        previous = outer
        for name in ENCODER:
            self.stages[name] = nn.Sequential(
                _convolution(previous, out[name]), _convolution(out[name], out[name])
            )
            previous = out[name]
        for before, name in pairwise((ENCODER[-1], *DECODER)):
            finer = strides[name] < strides[before]
            self.stages[name] = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
                if finer
                else nn.Identity(),
                _convolution(previous, previous),
                _convolution(previous, previous),
                _convolution(previous, out[name]),
            )
            previous = out[name]
        self.stages["R"] = nn.Conv2d(previous, outer, 3, padding=1)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Compute the map of every stage, and the reconstruction, unless they are pruned.

        Args:
            image: ``(N, channels, S, S)``, S a multiple of 16 times ``stem``.
        """
        features: dict[str, Tensor] = {}
        x = self.unshuffle(image)
        for name in ENCODER:
            if name not in self.stages:
                return features, None
            stage = self.stages[name]
            layer = nn.Sequential(self.pool, stage) if name in self.pooled else stage
            x = run_layer(layer, x, recompute=self.recompute)
            features[name] = x
        for name in DECODER:
            if name not in self.stages:
                return features, None
            x = run_layer(self.stages[name], x, recompute=self.recompute)
            features[name] = x
        if "R" not in self.stages:
            return features, None
        return features, self.shuffle(self.stages["R"](x))

    def prune(self, required: frozenset[str]) -> None:
        """Remove every stage after the last one named in ``required``; R makes the restoration."""
        order = (*ENCODER, *DECODER, "R")
        last = max((order.index(name) for name in required), default=-1)
        for name in order[last + 1 :]:
            if name in self.stages:
                del self.stages[name]


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        with torch.no_grad():
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
