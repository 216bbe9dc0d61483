"""A small residual network on the picture: the simplest deep baseline.

References:
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016: ResNet-18, narrower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import Classifier, ClassifierOutput, present_modalities
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.models.simple import require_modality
from chiasm.registry import register
from chiasm.samples import RecordingBatch


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions plus a shortcut, a 1x1 convolution if the shape changes."""

    def __init__(self, *, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, out, H / stride, W / stride)``."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ResidualCnn(Classifier):
    """Stem, four stages of residual blocks, spatial mean, and two heads.

    Args:
        width: channels of the first stage; each further one has twice as many.
        blocks: number of blocks of each stage.
        projection: for the contrast of the first stage.
        head: for the classes.
        image_size: side of the picture in ``example_batch``.
    """

    modalities = ("image",)

    def __init__(
        self,
        *,
        width: int,
        blocks: Sequence[int],
        projection: ProjectionHead,
        head: ClassHead,
        image_size: int,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )
        stages: list[nn.Module] = []
        channels = width
        for number, count in enumerate(blocks):
            out = width << number
            stages += [
                ResidualBlock(
                    channels=channels if first else out,
                    out=out,
                    stride=2 if first and number else 1,
                )
                for first in (True,) + (False,) * (count - 1)
            ]
            channels = out
        self.stages = nn.Sequential(*stages)
        self.projection = projection
        self.head = head

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify pictures; raises ``DataError`` if the batch has none."""
        image = present_modalities(batch, self.modalities)["image"]
        pooled = self.stages(self.stem(image)).mean(dim=(2, 3))
        return ClassifierOutput(
            logits=self.head(pooled), pooled=pooled, by_modality={"image": pooled}
        )

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Return unit vectors ``(N, 1, P)``: with one modality, its vector is the joint one."""
        out: Tensor = self.projection(output.pooled[:, None])
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shape of a picture, on its device."""
        size = self.image_size
        return RecordingBatch(torch.zeros(count, 3, size, size, device=self.device), None)


@register("classifier", baseline=True)
def residual_cnn_small(
    *,
    modalities: Sequence[str] = ("image",),
    classes: int = 5,
    image_size: int = 256,
    width: int = 24,
) -> ResidualCnn:
    """ResNet-18 on the picture at 24 channels instead of 64: 1.6 million weights."""
    require_modality("image", modalities)
    embedding = width << 3
    return ResidualCnn(
        width=width,
        blocks=(2, 2, 2, 2),
        projection=ProjectionHead(width=embedding, hidden=128, out=128),
        head=ClassHead(width=embedding, classes=classes),
        image_size=image_size,
    )
