"""BTF: distance of a patch's point histogram and colour features from the nearest normal patch.

References:
    Horwitz, Hoshen, Back to the Feature: Classical 3D Features are (Almost) All You Need for 3D
    Anomaly Detection, CVPR Workshops 2023; Roth et al., Towards Total Recall in Industrial Anomaly
    Detection, CVPR 2022, for the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.memory_bank import MemoryBank, Selection
from chiasm.detection.layers.patches import (
    FPFH,
    PatchFeatures,
    Standardisation,
    fpfh_patches,
    gather,
    gather_owners,
    make_patches,
    published_weights,
    scatter,
)
from chiasm.registry import register
from chiasm.samples import RGBDBatch


class BackToTheFeature(Baseline):
    """Standardised features of patches, joined, in one memory bank.

    Args:
        patches: of the colour picture; None uses points alone.
        bank: of the joined descriptors.
        points: whether point histograms are joined.
        stride: pixels per patch.
        step: stride of rows and columns at which points are described.
    """

    balance: Tensor

    steps = (FitStep("statistics"), FitStep("bank"))

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
        # The colour features together weigh as much as the point histogram.
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
        """Published weights of the colour features."""
        return published_weights(self.patches)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute descriptors ``(N, D, h, w)`` and the mask of patches on the object."""
        cells = batch.foreground.shape[-1] // self.stride
        descriptors = []
        if self.patches is not None:
            assert batch.rgb is not None
            descriptors.append(self.patches(batch.rgb))
        if self.points:
            descriptors.append(fpfh_patches(batch, cells=cells, step=self.step))
        inside = cells_inside(batch.foreground, (cells, cells))
        return {"patches": torch.cat(descriptors, dim=1), "inside": inside}

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Accumulate the statistics of each channel, or add to the bank."""
        inside = features["inside"]
        rows = gather(features["patches"], inside)
        if step == "statistics":
            self.standard.add(rows)
        else:
            self.bank.add(self._standardised(rows), gather_owners(index, inside))

    def finish_fit(self, step: str) -> None:
        """Finish the statistics, or the bank."""
        (self.standard if step == "statistics" else self.bank).finish()

    def predict(self, features: Features) -> BaselineOutput:
        """Compute the distance of each patch from the nearest normal one."""
        inside = features["inside"]
        rows = self._standardised(gather(features["patches"], inside))
        return BaselineOutput(raw=scatter(self.bank(rows)[0][:, 0], inside))

    def _standardised(self, rows: Tensor) -> Tensor:
        out: Tensor = self.standard(rows) * self.balance
        return out


@register("detector", baseline=True, method="BTF")
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
    points = "geometry" in modalities
    patches = None
    if "rgb" in modalities:
        patches = make_patches(backbone, weights_file=weights_file, pretrained=pretrained)
    dimension = (patches.dimension if patches is not None else 0) + (FPFH if points else 0)
    return BackToTheFeature(
        patches=patches,
        bank=MemoryBank(dimension, bank_mb=bank_mb, selection=selection, projection=projection),
        points=points,
        step=step,
    )
