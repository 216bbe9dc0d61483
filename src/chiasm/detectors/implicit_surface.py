"""Small pieces of a surface as a code and a signed distance: neural implicit functions of patches.

References:
    Ma et al., Neural-Pull: Learning Signed Distance Functions from Point Clouds by Learning to
    Pull Space onto Surfaces, ICML 2021; Chu et al., Shape-Guided Dual-Memory Learning for 3D
    Anomaly Detection, ICML 2023, Section 3.1.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from chiasm.errors import DataError
from chiasm.samples import RGBDBatch


class PatchEncoder(nn.Module):
    """A PointNet: points of a patch, in any order, to one code.

    Args:
        code: length of the code.
    """

    def __init__(self, *, code: int = 128) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, code)
        )
        self.code = nn.Sequential(nn.Linear(code, code), nn.ReLU(), nn.Linear(code, code))

    def forward(self, patches: Tensor) -> Tensor:
        """Map ``(P, K, 3)`` to codes ``(P, C)``."""
        out: Tensor = self.code(self.points(patches).amax(dim=1))
        return out


class DistanceDecoder(nn.Module):
    """The signed distance of places near a patch from the surface that a code describes.

    Args:
        code: length of the code.
        hidden: units of a layer.
    """

    def __init__(self, *, code: int = 128, hidden: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 + code, hidden),
            nn.Softplus(beta=20),
            nn.Linear(hidden, hidden),
            nn.Softplus(beta=20),
            nn.Linear(hidden, hidden),
            nn.Softplus(beta=20),
            nn.Linear(hidden, 1),
        )

    def forward(self, places: Tensor, codes: Tensor) -> Tensor:
        """Distances ``(P, Q)`` of places ``(P, Q, 3)`` for codes ``(P, C)``."""
        spread = codes[:, None].expand(-1, places.shape[1], -1)
        out: Tensor = self.layers(torch.cat([places, spread], dim=2))[..., 0]
        return out


def pulled(decoder: DistanceDecoder, places: Tensor, codes: Tensor) -> Tensor:
    """Places ``(P, Q, 3)`` moved by their distance against its gradient: onto the surface.

    Neural-Pull, Eq. 1. Differentiable in the decoder and the codes.
    """
    places = places.detach().requires_grad_(True)
    with torch.enable_grad():
        distance = decoder(places, codes)
        (gradient,) = torch.autograd.grad(distance.sum(), places, create_graph=True)
    direction = gradient / gradient.norm(dim=2, keepdim=True).clamp(min=1e-6)
    return places - distance[..., None] * direction


def pull_loss(
    encoder: PatchEncoder, decoder: DistanceDecoder, patches: Tensor, *, noise: float = 0.1
) -> Tensor:
    """Mean squared distance of pulled noisy points from the patch's nearest own points.

    Args:
        encoder, decoder: learn.
        patches: ``(P, K, 3)``, of unit size.
        noise: standard deviation of the places around the points, as a share of the patch.
    """
    places = patches + noise * torch.randn_like(patches)
    nearest = torch.cdist(places, patches).argmin(dim=2)
    target = patches.gather(1, nearest[..., None].expand(-1, -1, 3))
    return (pulled(decoder, places, encoder(patches)) - target).square().sum(dim=2).mean()


@torch.no_grad()
def surface_patches(
    batch: RGBDBatch, *, cells: int, points: int, step: int
) -> tuple[Tensor, Tensor]:
    """The nearest points of the middle of every cell of a grid, centred and of unit size.

    Args:
        batch: with points.
        cells: of a side of the grid.
        points: of a patch, K.
        step: every so many rows and columns of the points serve.

    Returns:
        Patches ``(N, cells, cells, K, 3)``, nearest points first, in units of the farthest one's
        distance, and which cells have one ``(N, cells, cells)``: those with a point in them, on
        parts that have K points at all.

    Raises:
        DataError: the batch has no points.
    """
    if batch.xyz is None or batch.valid is None:
        raise DataError("Surface patches need 3D data, and this part has none.")
    count, size = len(batch.xyz), batch.xyz.shape[-1]
    side = size // cells
    found = torch.zeros(count, cells, cells, points, 3)
    known = torch.zeros(count, cells, cells, dtype=torch.bool)
    inside = ((batch.valid * batch.foreground)[:, 0] > 0.5).cpu().numpy()
    xyz = batch.xyz.permute(0, 2, 3, 1).cpu().numpy()
    for number in range(count):
        some = np.zeros_like(inside[number])
        some[::step, ::step] = inside[number, ::step, ::step]
        cloud = xyz[number][some]
        if len(cloud) < points:
            continue
        rows, columns = np.nonzero(some)
        cell = rows // side * cells + columns // side
        # The point of a cell that lies nearest to its middle.
        off = (rows % side - side / 2) ** 2 + (columns % side - side / 2) ** 2
        order = np.lexsort((off, cell))
        first = order[np.unique(cell[order], return_index=True)[1]]
        _, near = cKDTree(cloud).query(cloud[first], k=points)
        patches = cloud[near] - cloud[first][:, None]
        size_of = np.linalg.norm(patches[:, -1], axis=1)[:, None, None]
        patches = patches / np.maximum(size_of, 1e-9)
        places = torch.from_numpy(cell[first])
        found[number].view(-1, points, 3)[places] = torch.from_numpy(patches.astype(np.float32))
        known[number].view(-1)[places] = True
    return found.to(batch.xyz.device), known.to(batch.xyz.device)
