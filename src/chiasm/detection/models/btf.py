"""BTF: point histograms and colour features of each patch, and the distance to the nearest normal.

References:
    Horwitz, Hoshen, Back to the Feature: Classical 3D Features are (Almost) All You Need for 3D
    Anomaly Detection, CVPR Workshops 2023; Roth et al., Towards Total Recall in Industrial Anomaly
    Detection, CVPR 2022, for the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chiasm.detection.detector import Baseline, BaselineOutput, Described, Observe
from chiasm.detection.layers.backbones import make_backbone
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.memory_bank import MemoryBank, Selection
from chiasm.detection.layers.patches import (
    FPFH,
    PatchFeatures,
    Standardisation,
    fpfh_patches,
    scatter,
)
from chiasm.registry import register
from chiasm.samples import RGBDBatch


class BackToTheFeature(Baseline):
    """Standardised features of patches, joined, in one memory bank.

    Args:
        patches: of the colour picture; None looks at points alone.
        bank: of the joined descriptors.
        points: whether point histograms are joined.
        stride: pixels to a patch.
        step: every so many rows and columns of the points are described.
    """

    steps = (Observe("statistics"), Observe("bank"))

    def __init__(
        self,
        *,
        patches: PatchFeatures | None,
        bank: MemoryBank,
        points: bool,
        stride: int = 8,
        step: int = 2,
    ) -> None:
        super().__init__()
        self.patches = patches
        self.bank = bank
        self.points = points
        self.stride = stride
        self.step = step
        colour = patches.groups if patches is not None else ()
        # All of the colour features count as much as the point histogram does.
        self.standard = Standardisation(colour + ((FPFH,) if points else ()))
        groups = len(colour)
        balance = [torch.full((sum(colour),), max(groups, 1) ** -0.5)] if groups else []
        balance += [torch.ones(FPFH)] if points else []
        self.register_buffer("balance", torch.cat(balance), persistent=False)
        self.modalities = (("rgb",) if patches is not None else ()) + (
            ("geometry",) if points else ()
        )

    @property
    def pretrained_weights(self) -> str | None:
        """Of the colour features."""
        return None if self.patches is None else str(self.patches.backbone.weights)

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Descriptors ``(N, D, h, w)`` and which patches lie on the object."""
        cells = batch.foreground.shape[-1] // self.stride
        found = []
        if self.patches is not None:
            assert batch.rgb is not None
            found.append(self.patches(batch.rgb))
        if self.points:
            found.append(fpfh_patches(batch, cells=cells, step=self.step))
        inside = cells_inside(batch.foreground, (cells, cells))
        return {"patches": torch.cat(found, dim=1), "inside": inside}

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """First the spread of each channel, then the bank."""
        inside = described["inside"]
        rows = described["patches"].permute(0, 2, 3, 1)[inside]
        if step == "statistics":
            self.standard.add(rows)
        else:
            owners = index.view(-1, 1, 1).expand_as(inside)[inside]
            self.bank.add(self._comparable(rows), owners)

    def finish(self, step: str) -> None:
        """Settle the statistics, or the bank."""
        (self.standard if step == "statistics" else self.bank).finish()

    def judge(self, described: Described) -> BaselineOutput:
        """Distance of each patch to the nearest normal one."""
        inside = described["inside"]
        rows = self._comparable(described["patches"].permute(0, 2, 3, 1)[inside])
        return BaselineOutput(raw=scatter(self.bank(rows)[0][:, 0], inside))

    def _comparable(self, rows: Tensor) -> Tensor:
        out: Tensor = self.standard(rows) * self.balance
        return out


@register("detector", baseline=True)
def btf(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    bank_mb: float = 10.0,
    selection: Selection = "coreset",
    projection: int | None = 64,
    step: int = 2,
    backbone: str = "efficientnet_lite0",
    weights_file: str | None = None,
    pretrained: bool = True,
) -> BackToTheFeature:
    """BTF: point histograms (FPFH) and frozen colour features in one memory bank."""
    colour = "rgb" in modalities
    points = "geometry" in modalities
    patches = (
        PatchFeatures(
            backbone=make_backbone(backbone, weights_file=weights_file, pretrained=pretrained)
        )
        if colour
        else None
    )
    dimension = (patches.dimension if patches is not None else 0) + (FPFH if points else 0)
    return BackToTheFeature(
        patches=patches,
        bank=MemoryBank(dimension, bank_mb=bank_mb, selection=selection, projection=projection),
        points=points,
        step=step,
    )
