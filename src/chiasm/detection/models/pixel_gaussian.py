"""Gaussian of the raw channels at each position: a baseline without any trained feature.

References:
    Defard et al., PaDiM: a Patch Distribution Modeling Framework, ICPR Workshops 2021, whose
    Gaussian per position is applied here to raw channels instead of a network's features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.registry import register
from chiasm.samples import RGBDBatch
from chiasm.training.device import in_double


class PixelGaussian(Baseline):
    """Mahalanobis distance from the normals' Gaussian at the same position of the crop.

    Where few normals cover a position, its Gaussian shrinks towards that of the whole object.

    Args:
        cells: positions per side.
        modalities: the sensors that it reads.
        prior: number of normals that the whole object's Gaussian counts as.
        floor: added to the variances, in units of the whole object's.
    """

    steps = (FitStep("moments"),)
    mean: Tensor
    whitening: Tensor

    def __init__(
        self, *, cells: int, modalities: Sequence[str], prior: float = 5.0, floor: float = 0.05
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.prior = prior
        self.floor = floor
        channels = 3 * len(self.modalities)
        self.register_buffer("mean", torch.zeros(cells, cells, channels))
        self.register_buffer("whitening", torch.zeros(cells, cells, channels, channels))
        self._count = torch.zeros(cells, cells, dtype=torch.float64)
        self._sum = torch.zeros(cells, cells, channels, dtype=torch.float64)
        self._products = torch.zeros(cells, cells, channels, channels, dtype=torch.float64)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Average the channels over the object's pixels of each cell; mark the cells with any."""
        pictures = [images_of(batch, modality) for modality in self.modalities]
        cells = self.mean.shape[0]
        total = F.adaptive_avg_pool2d(torch.cat(pictures, dim=1) * batch.foreground, cells)
        share = F.adaptive_avg_pool2d(batch.foreground, cells).clamp(min=1e-6)
        return {
            "values": (total / share).permute(0, 2, 3, 1),  # n c h w -> n h w c
            "inside": cells_inside(batch.foreground, (cells, cells)),
        }

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Accumulate moments."""
        values = in_double(features["values"])
        inside = features["inside"].to(values)
        values = values * inside[..., None]
        self._count += inside.sum(dim=0).cpu()
        self._sum += values.sum(dim=0).cpu()
        self._products += torch.einsum("nhwc,nhwd->hwcd", values, values).cpu()

    def finish_fit(self, step: str) -> None:
        """Compute mean and whitening matrix of every cell."""
        count = self._count[..., None]
        whole = self._count.sum().clamp(min=1)
        grand = self._sum.sum(dim=(0, 1)) / whole
        spread = self._products.sum(dim=(0, 1)) / whole - torch.outer(grand, grand)
        mean = (self._sum + self.prior * grand) / (count + self.prior)
        second = self._products + self.prior * (spread + torch.outer(grand, grand))
        second = second / (count[..., None] + self.prior)
        covariance = second - mean[..., :, None] * mean[..., None, :]
        covariance += torch.diag(self.floor * spread.diagonal().clamp(min=1e-8))
        self.mean = mean.to(self.mean)
        # x' C^-1 x = |L^-1 x|^2 for C = L L'.
        factor = torch.linalg.cholesky(covariance)
        identity = torch.eye(len(grand), dtype=torch.float64).expand_as(factor)
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        self.whitening = whitening.to(self.whitening)

    def predict(self, features: Features) -> BaselineOutput:
        """Compute Mahalanobis distances."""
        offset = features["values"] - self.mean
        whitened = torch.einsum("hwcd,nhwd->nhwc", self.whitening, offset)
        return BaselineOutput(raw=(whitened.norm(dim=-1) * features["inside"])[:, None])


@register("detector", baseline=True)
def pixel_gaussian(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    stride: int = 4,
) -> PixelGaussian:
    """Trivial: a Gaussian of colour, height and slopes at each position of the crop."""
    return PixelGaussian(cells=image_size // stride, modalities=modalities)
