"""Features of some points, told to every point of an organised cloud and averaged over patches."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from chiasm.data.geometry import fill_nearest
from chiasm.detectors.point_transformer import PointTransformer
from chiasm.errors import DataError
from chiasm.samples import FloatArray, RGBDBatch

_NEAREST = 3  # centres that tell a point's feature


def interpolation(
    points: FloatArray, centres: FloatArray, *, nearest: int = _NEAREST
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and weights ``(M, nearest)`` of the nearest centres, by inverse squared distance.

    References:
        Qi et al., PointNet++, NeurIPS 2017, Eq. 2.
    """
    nearest = min(nearest, len(centres))
    away, number = cKDTree(centres).query(points, k=nearest)
    away, number = away.reshape(-1, nearest), number.reshape(-1, nearest)
    # In units of the nearest distance, and with a floor, a point on a centre is told by it alone.
    unit = np.maximum(away[:, :1], 1e-12)
    weight = 1 / np.maximum(away / unit, 1e-6) ** 2
    weight[away[:, 0] <= 1e-12] = np.eye(nearest)[0]
    return number, weight / weight.sum(axis=1, keepdims=True)


@torch.no_grad()
def transformer_patches(
    batch: RGBDBatch, network: PointTransformer, *, cells: int, step: int = 2
) -> Tensor:
    """Features of a batch's points, interpolated to every point, averaged over each patch.

    Args:
        batch: with points.
        network: describes some points of each part.
        cells: patches to a side.
        step: every so many rows and columns of the points serve.

    Returns:
        ``(N, 3 x width, cells, cells)``. A patch without a point takes what the nearest one has; 0
        on parts with fewer than 3 points.

    Raises:
        DataError: the batch has no points.
    """
    if batch.xyz is None or batch.valid is None:
        raise DataError("The point transformer needs 3D data, and this part has none.")
    side = batch.xyz.shape[-1] // cells
    inside = (batch.valid * batch.foreground)[:, 0] > 0.5
    out = batch.xyz.new_zeros(len(batch.xyz), sum(network.channels), cells, cells)
    for number, there in enumerate(inside):
        some = torch.zeros_like(there)
        some[::step, ::step] = there[::step, ::step]
        if int(some.sum()) < _NEAREST:
            continue
        cloud = batch.xyz[number][:, some].T.contiguous()  # 3 h w -> m 3
        centres, features = network(cloud)
        nearest, weight = interpolation(cloud.cpu().numpy(), centres.cpu().numpy())
        rows, columns = (place // side for place in some.nonzero(as_tuple=True))
        cell = (rows * cells + columns).cpu().numpy()
        # Interpolating and averaging are both linear: together one matrix, cells by centres.
        share = np.zeros((cells * cells, len(centres)), np.float32)
        np.add.at(share, (cell[:, None], nearest), weight)
        count = np.bincount(cell, minlength=cells * cells)
        share /= np.maximum(count, 1)[:, None]
        told = torch.from_numpy(share).to(features) @ features
        filled = fill_nearest(
            told.view(cells, cells, -1).cpu().numpy(), (count > 0).reshape(cells, cells)
        )
        out[number] = torch.from_numpy(np.ascontiguousarray(filled)).to(out).permute(2, 0, 1)
    return out
