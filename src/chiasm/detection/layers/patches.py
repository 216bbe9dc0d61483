"""Patches of frozen features: strides joined on one grid, statistics, points on that grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor, nn

from chiasm.detection.layers.backbones import Backbone, make_backbone
from chiasm.detection.layers.fpfh import BINS, fpfh
from chiasm.detection.layers.point_transformer import PointTransformer
from chiasm.detection.preparation.geometry import fill_nearest
from chiasm.errors import DataError
from chiasm.samples import FloatArray, RGBDBatch
from chiasm.training.device import in_double

FPFH = 3 * BINS


def join_strides(features: Mapping[int, Tensor], *, size: Sequence[int]) -> Tensor:
    """Average the maps of all strides over 3 x 3 and join them on one grid ``(N, D, h, w)``.

    Args:
        features: stride to ``(N, C, S / stride, S / stride)``.
        size: h and w of the grid.

    References:
        Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022, Section 3.1.
    """
    grid = (size[0], size[1])
    maps = []
    for value in features.values():
        smooth = F.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
        if tuple(smooth.shape[-2:]) != grid:
            smooth = F.interpolate(smooth, size=grid, mode="bilinear", align_corners=False)
        maps.append(smooth)
    return torch.cat(maps, dim=1)


class PatchFeatures(nn.Module):
    """A frozen backbone whose strides are joined on one grid.

    Args:
        backbone: frozen.
        stride: pixels of the input per patch.
    """

    def __init__(self, *, backbone: Backbone, stride: int = 8) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = stride

    @property
    def groups(self) -> tuple[int, ...]:
        """Channels of each stride, in the order in which they are joined."""
        return tuple(self.backbone.channels.values())

    @property
    def dimension(self) -> int:
        """Length of a patch's descriptor."""
        return sum(self.groups)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map ``(N, 3, S, S)`` in [0, 1] to ``(N, D, S / stride, S / stride)``."""
        size = [side // self.stride for side in images.shape[-2:]]
        return join_strides(self.backbone(images), size=size)


def make_patches(
    backbone: str, *, weights_file: str | Path | None = None, pretrained: bool = True
) -> PatchFeatures:
    """Build the patch features of a named backbone; arguments and errors as ``make_backbone``."""
    return PatchFeatures(
        backbone=make_backbone(backbone, weights_file=weights_file, pretrained=pretrained)
    )


def published_weights(patches: PatchFeatures | None, points: object = None) -> str | None:
    """Name the published weights of patch features and of a point transformer; None for neither."""
    weights = [] if patches is None else [str(patches.backbone.weights)]
    weights += [points.weights] if isinstance(points, PointTransformer) else []
    return "; ".join(weights) or None


class Standardisation(nn.Module):
    """Mean 0 and deviation 1 of each channel over normal patches, every group of equal weight.

    Without it the group with the largest numbers or the most channels would dominate distances.
    The bins of a point histogram share one unit, and therefore one deviation: divided by a
    deviation per bin, a bin that normal parts hardly ever fill would outweigh all the others.

    Args:
        groups: channels of each group; a group of ``FPFH`` channels is a point histogram.
    """

    mean: Tensor
    weight: Tensor
    share: Tensor

    def __init__(self, groups: Sequence[int]) -> None:
        super().__init__()
        dimension = sum(groups)
        self.groups = tuple(groups)
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("weight", torch.ones(dimension))
        shares = [torch.full((g,), g**-0.5) for g in groups]
        self.register_buffer("share", torch.cat([torch.zeros(0), *shares]), persistent=False)
        self._count = 0
        self._sum = torch.zeros(dimension, dtype=torch.float64)
        self._squares = torch.zeros(dimension, dtype=torch.float64)

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Accumulate rows ``(M, D)`` of normal patches."""
        values = in_double(rows)
        self._count += len(values)
        self._sum += values.sum(dim=0).cpu()
        self._squares += (values * values).sum(dim=0).cpu()

    @torch.no_grad()
    def finish(self) -> None:
        """Compute mean and weight; raises ``DataError`` if fewer than two rows were added."""
        if self._count < 2:
            raise DataError("No patch of a normal part lies on an object: there is nothing to fit.")
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean**2).clamp(min=0)
        deviation = torch.cat(
            [
                part.mean().expand_as(part) if len(part) == FPFH else part
                for part in variance.split(list(self.groups))
            ]
        ).sqrt()
        self.mean.copy_(mean)
        self.weight.copy_(self.share.cpu() / (deviation + 1e-6))

    def forward(self, rows: Tensor) -> Tensor:
        """Standardise ``(..., D)``."""
        return (rows - self.mean) * self.weight


@torch.no_grad()
def fpfh_patches(batch: RGBDBatch, *, cells: int, step: int = 2) -> Tensor:
    """Compute point histograms, averaged over the measured points of each patch.

    Args:
        batch: with points.
        cells: patches per side.
        step: stride of rows and columns at which points are described.

    Returns:
        ``(N, 33, cells, cells)``. A patch without a point takes the values of the nearest patch
        with one: zeros would look like no surface at all, and every rim of a part, where points
        are missing, like a defect. 0 on parts without any point.

    Raises:
        DataError: the batch has no points.
    """
    if batch.xyz is None or batch.valid is None:
        raise DataError("Point histograms need 3D data, and this part has none.")
    inside = (batch.valid * batch.foreground)[:, 0, ::step, ::step] > 0.5
    points = batch.xyz[:, :, ::step, ::step].permute(0, 2, 3, 1)  # n 3 h w -> n h w 3
    histograms = torch.stack(
        [
            torch.from_numpy(fpfh(xyz.cpu().numpy(), valid.cpu().numpy()))
            for xyz, valid in zip(points, inside)
        ]
    ).to(points)
    measured = inside[:, None].to(histograms)
    total = F.adaptive_avg_pool2d(histograms.permute(0, 3, 1, 2) * measured, cells)
    share = F.adaptive_avg_pool2d(measured, cells)
    mean = (total / share.clamp(min=1e-6)).permute(0, 2, 3, 1)  # n c h w -> n h w c
    filled = [
        fill_nearest(values, covered) if covered.any() else values
        for values, covered in zip(mean.cpu().numpy(), (share[:, 0] > 0).cpu().numpy())
    ]
    return torch.from_numpy(np.stack(filled)).to(points).permute(0, 3, 1, 2)


def gather(maps: Tensor, inside: Tensor) -> Tensor:
    """Select the rows ``(M, D)`` of maps ``(N, D, h, w)`` where ``(N, h, w)`` is True."""
    return maps.permute(0, 2, 3, 1)[inside]


def gather_owners(index: Tensor, inside: Tensor) -> Tensor:
    """Repeat the numbers of parts ``(N,)`` for the ``(M,)`` rows of ``gather``."""
    return index.view(-1, 1, 1).expand_as(inside)[inside]


def scatter(rows: Tensor, inside: Tensor) -> Tensor:
    """Put values ``(M,)`` of the patches inside on their grid ``(N, 1, h, w)``, 0 elsewhere."""
    out = rows.new_zeros(inside.shape)
    out[inside] = rows
    return out[:, None]


_NEAREST = 3  # centres from which a point's feature is interpolated


def interpolation(
    points: FloatArray, centres: FloatArray, *, nearest: int = _NEAREST
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest centres ``(M, nearest)`` and weigh them by inverse squared distance.

    References:
        Qi et al., PointNet++, NeurIPS 2017, Eq. 2.
    """
    nearest = min(nearest, len(centres))
    distance, number = cKDTree(centres).query(points, k=nearest)
    distance, number = distance.reshape(-1, nearest), number.reshape(-1, nearest)
    # In units of the nearest distance, and with a floor, a point on a centre takes its feature.
    unit = np.maximum(distance[:, :1], 1e-12)
    weight = 1 / np.maximum(distance / unit, 1e-6) ** 2
    weight[distance[:, 0] <= 1e-12] = np.eye(nearest)[0]
    return number, weight / weight.sum(axis=1, keepdims=True)


@torch.no_grad()
def transformer_patches(
    batch: RGBDBatch, network: PointTransformer, *, cells: int, step: int = 2
) -> Tensor:
    """Interpolate the features of centres to every point and average them over each patch.

    Args:
        batch: with points.
        network: computes features at the centres of each part's groups of points.
        cells: patches per side.
        step: stride of rows and columns at which points are used.

    Returns:
        ``(N, 3 x width, cells, cells)``. A patch without a point takes the values of the nearest
        patch with one; 0 on parts with fewer than 3 points.

    Raises:
        DataError: the batch has no points.
    """
    if batch.xyz is None or batch.valid is None:
        raise DataError("The point transformer needs 3D data, and this part has none.")
    side = batch.xyz.shape[-1] // cells
    inside = (batch.valid * batch.foreground)[:, 0] > 0.5
    out = batch.xyz.new_zeros(len(batch.xyz), sum(network.channels), cells, cells)
    for number, measured in enumerate(inside):
        sampled = torch.zeros_like(measured)
        sampled[::step, ::step] = measured[::step, ::step]
        if int(sampled.sum()) < _NEAREST:
            continue
        cloud = batch.xyz[number][:, sampled].T.contiguous()  # 3 h w -> m 3
        centres, features = network(cloud)
        nearest, weight = interpolation(cloud.cpu().numpy(), centres.cpu().numpy())
        rows, columns = (axis // side for axis in sampled.nonzero(as_tuple=True))
        cell = (rows * cells + columns).cpu().numpy()
        # Interpolating and averaging are both linear: together one matrix, cells by centres.
        share = np.zeros((cells * cells, len(centres)), np.float32)
        np.add.at(share, (cell[:, None], nearest), weight)
        count = np.bincount(cell, minlength=cells * cells)
        share /= np.maximum(count, 1)[:, None]
        means = torch.from_numpy(share).to(features) @ features
        filled = fill_nearest(
            means.view(cells, cells, -1).cpu().numpy(), (count > 0).reshape(cells, cells)
        )
        out[number] = torch.from_numpy(np.ascontiguousarray(filled)).to(out).permute(2, 0, 1)
    return out
