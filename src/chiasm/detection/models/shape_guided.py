"""Shape-Guided: codes of implicit surfaces of normal patches, and colours linked with each code.

Small pieces of a surface are represented by a code and a signed distance function.

References:
    Ma et al., Neural-Pull: Learning Signed Distance Functions from Point Clouds by Learning to
    Pull Space onto Surfaces, ICML 2021; Chu et al., Shape-Guided Dual-Memory Learning for 3D
    Anomaly Detection, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep, TrainStep
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.memory_bank import MEGABYTE, MemoryBank
from chiasm.detection.layers.patches import (
    PatchFeatures,
    Standardisation,
    gather,
    gather_owners,
    make_patches,
    published_weights,
    scatter,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

CODE = 128

PATCHES_PER_STEP = 128  # at most

_CHUNK = 512  # patches scored at a time


class ShapeGuided(Baseline):
    """Two memories: codes of normal shapes, and for each code colours of the same patches.

    A patch's code is interpolated from its nearest normal codes. The decoded surface defines the
    first score: the distance of the patch's points from it. The second score is the distance of the
    patch's colour from the colours linked with these codes. Each score is divided by its mean over
    normal patches, each compared with the codes and colours of the other parts, and the larger one
    counts. Where a code has more colours than are kept, every one is kept with the same
    probability, whichever part it is of.

    Args:
        patches: of the colour picture; None uses shapes alone.
        shapes: memory of codes.
        colours: colours kept with each code.
        points: of a patch.
        neighbours: normal codes from which a patch's code is interpolated.
        epochs: of the implicit surface.
        step: stride of rows and columns at which points are used.
        stride: pixels per patch.
    """

    linked: Tensor
    count: Tensor
    usual: Tensor
    linked_owner: Tensor
    offered: Tensor

    def __init__(
        self,
        *,
        patches: PatchFeatures | None,
        shapes: MemoryBank,
        colours: int,
        points: int,
        neighbours: int,
        epochs: int,
        step: int,
        stride: int = 8,
    ) -> None:
        super().__init__()
        if neighbours < 1:
            raise ConfigurationError(f"neighbours is {neighbours}; it must be at least 1.")
        self.patches = patches
        self.shapes = shapes
        self.colours = colours
        self.points = points
        self.neighbours = neighbours
        self.step = step
        self.stride = stride
        self.encoder = PatchEncoder(code=CODE)
        self.decoder = DistanceDecoder(code=CODE)
        self.modalities = ("geometry",) if patches is None else ("rgb", "geometry")
        dimension = 0 if patches is None else patches.dimension
        self.standard = Standardisation(() if patches is None else patches.groups)
        self.register_buffer("linked", torch.zeros(0, colours, dimension))
        self.register_buffer("count", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("usual", torch.ones(2))
        # What fitting alone needs, and a saved model does not: the part of each linked colour, and
        # how many colours each code was offered.
        self.register_buffer("linked_owner", torch.zeros(0, colours).long(), persistent=False)
        self.register_buffer("offered", torch.zeros(0).long(), persistent=False)
        self._generator = np.random.default_rng(shapes.seed)
        self._normal_distances: list[Tensor] = []
        self.steps = (
            *([] if patches is None else [FitStep("statistics")]),
            TrainStep("surface", ("encoder", "decoder"), epochs=epochs, batch=4, exact=True),
            FitStep("shapes"),
            *([] if patches is None else [FitStep("colours")]),
            FitStep("usual"),
        )

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the colour features."""
        return published_weights(self.patches)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute surface patches, the mask of cells with one, and colour features of the cells."""
        cells = batch.foreground.shape[-1] // self.stride
        shape, inside = surface_patches(batch, cells=cells, points=self.points, step=self.step)
        features = {"shape": shape, "inside": inside}
        if self.patches is not None:
            features["colour"] = self.patches(images_of(batch, "rgb"))
        return features

    def loss(self, step: str, batch: Features) -> Tensor:
        """Compute the pull loss of a random choice of patches."""
        patches = batch["shape"][batch["inside"]]
        chosen = torch.randperm(len(patches), device=patches.device)[:PATCHES_PER_STEP]
        return pull_loss(self.encoder, self.decoder, patches[chosen])

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Accumulate colour statistics, store codes, link colours or collect distances."""
        inside = features["inside"]
        owners = gather_owners(index, inside)
        if step == "statistics":
            self.standard.add(gather(features["colour"], inside))
        elif step == "shapes":
            self.shapes.add(self.encoder(features["shape"][inside]), owners)
        elif step == "colours":
            self._link(self.encoder(features["shape"][inside]), self._colour(features), owners)
        else:
            self._normal_distances.append(self._distances(features, owners))

    def finish_fit(self, step: str) -> None:
        """Finish the statistics or the memory, or compute the mean distances of normals."""
        if step == "statistics":
            self.standard.finish()
        elif step == "shapes":
            self.shapes.finish()
            entries = len(self.shapes.descriptors)
            dimension = 0 if self.patches is None else self.patches.dimension
            self.linked = self.linked.new_zeros(entries, self.colours, dimension)
            self.count = self.count.new_zeros(entries)
            self.linked_owner = self.linked_owner.new_full((entries, self.colours), -1)
            self.offered = self.offered.new_zeros(entries)
        elif step == "usual":
            # A patch whose codes have colours of its own part alone has no distance of colour.
            mean = torch.cat(self._normal_distances).nanmean(dim=0)
            self.usual = mean.nan_to_num(1.0).clamp(min=1e-6)
            self._normal_distances = []

    def predict(self, features: Features) -> BaselineOutput:
        """Return the larger of both distances, each divided by its mean over normal patches."""
        # Codes without any linked colour leave nothing to compare with.
        distances = self._distances(features, None).nan_to_num(0.0) / self.usual
        return BaselineOutput(raw=scatter(distances.amax(dim=1), features["inside"]))

    def _distances(self, features: Features, owners: Tensor | None) -> Tensor:
        """Distances ``(M, 2)`` of the patches inside, of shape and colour (0 without colour).

        With ``owners`` ``(M,)``, codes and colours of the patch's own part are left out. A distance
        of colour is NaN where the codes have no colour that counts.
        """
        patches = features["shape"][features["inside"]]
        colour = self._colour(features) if self.patches is not None else None
        distances = []
        for start in range(0, len(patches), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            chunk_owners = None if owners is None else owners[chunk]
            distance, number = self.shapes(
                self.encoder(patches[chunk]), chunk_owners, count=self.neighbours
            )
            # Nearer codes weigh more: a softmax over distances in units of the nearest one.
            weight = torch.softmax(-distance / distance[:, :1].clamp(min=1e-6), dim=1)
            code = torch.einsum("mk,mkc->mc", weight, self.shapes.descriptors[number])
            innermost = patches[chunk][:, : max(1, self.points // 4)]
            shape = self.decoder(innermost, code).abs().mean(dim=1)
            if colour is None:
                distances.append(torch.stack([shape, torch.zeros_like(shape)], dim=1))
                continue
            linked = self.linked[number].flatten(1, 2)  # m k l d -> m (k l) d
            slots = torch.arange(self.colours, device=number.device)
            empty = slots >= self.count[number][..., None]
            if chunk_owners is not None:
                empty |= self.linked_owner[number] == chunk_owners[:, None, None]
            nearest = (linked - colour[chunk][:, None]).norm(dim=2)
            nearest = nearest.masked_fill(empty.flatten(1), torch.inf).amin(dim=1)
            nearest = torch.where(nearest.isfinite(), nearest, torch.nan)
            distances.append(torch.stack([shape, nearest], dim=1))
        return torch.cat(distances) if distances else patches.new_zeros(0, 2)

    def _colour(self, features: Features) -> Tensor:
        rows: Tensor = self.standard(gather(features["colour"], features["inside"]))
        return rows

    def _link(self, codes: Tensor, colour: Tensor, owners: Tensor) -> None:
        """Link each colour with the code nearest to its patch's, up to ``colours`` per code.

        Of more, a reservoir keeps each with the same probability: the first come would be those of
        a few parts, and the distances of these parts would be smaller than those of others.

        References:
            Vitter, Random Sampling with a Reservoir, TOMS 1985, algorithm R.
        """
        for start in range(0, len(codes), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            nearest = self.shapes(codes[chunk])[1][:, 0]
            # Rank of a row among those of the same code in this chunk.
            order = nearest.argsort(stable=True)
            ordered = nearest[order]
            first = torch.searchsorted(ordered, ordered)
            rank = torch.empty_like(nearest)
            rank[order] = torch.arange(len(nearest), device=nearest.device) - first
            turn = self.offered[nearest] + rank
            drawn = torch.from_numpy(self._generator.random(len(nearest))).to(turn.device)
            slot = torch.where(turn < self.colours, turn, (drawn * (turn + 1)).long())
            kept = torch.nonzero(slot < self.colours)[:, 0]
            # Of several colours for one slot the last stays, as if they had come one by one.
            place = nearest[kept] * self.colours + slot[kept]
            last = torch.full((self.linked_owner.numel(),), -1, device=place.device)
            last = last.scatter_reduce(0, place, kept, reduce="amax")
            place = torch.nonzero(last >= 0)[:, 0]
            row = last[place]
            self.linked.view(-1, self.linked.shape[2])[place] = colour[chunk][row]
            self.linked_owner.view(-1)[place] = owners[chunk][row]
            self.offered += torch.bincount(nearest, minlength=len(self.offered))
            self.count = self.offered.clamp(max=self.colours)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # The number of entries is that of the fitted memory of shapes.
        for name in ("linked", "count"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, torch.empty_like(stored, device=self.usual.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


@register("detector", baseline=True, method="Shape-Guided")
def shape_guided(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    bank_mb: float = 20.0,
    colours: int = 4,
    points: int = 64,
    neighbours: int = 5,
    epochs: int = 60,
    step: int = 2,
    backbone: str = "efficientnet_lite0",
    weights_file: str | None = None,
    pretrained: bool = True,
) -> ShapeGuided:
    """Shape-Guided: implicit surfaces of normal patches, and colours linked with each."""
    if "geometry" not in modalities:
        raise ConfigurationError("Shape-Guided compares shapes first: it needs geometry.")
    patches = None
    if "rgb" in modalities:
        patches = make_patches(backbone, weights_file=weights_file, pretrained=pretrained)
    linked = 0 if patches is None else colours * patches.dimension
    # Both memories share the budget: a code costs its own bytes and those of its colours.
    per_entry = 4 * CODE + 8
    share = per_entry / (per_entry + 4 * linked + 8)
    return ShapeGuided(
        patches=patches,
        shapes=MemoryBank(CODE, bank_mb=int(bank_mb * share * MEGABYTE) / MEGABYTE),
        colours=colours,
        points=points,
        neighbours=neighbours,
        epochs=epochs,
        step=step,
    )


class PatchEncoder(nn.Module):
    """A PointNet: maps the points of a patch, in any order, to one code.

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
    """Signed distance of positions near a patch from the surface that a code describes.

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

    def forward(self, positions: Tensor, codes: Tensor) -> Tensor:
        """Compute distances ``(P, Q)`` of positions ``(P, Q, 3)`` for codes ``(P, C)``."""
        expanded = codes[:, None].expand(-1, positions.shape[1], -1)
        out: Tensor = self.layers(torch.cat([positions, expanded], dim=2))[..., 0]
        return out


def pull_to_surface(decoder: DistanceDecoder, positions: Tensor, codes: Tensor) -> Tensor:
    """Move positions ``(P, Q, 3)`` by their distance against its gradient: onto the surface.

    Neural-Pull, Eq. 1. Differentiable in the decoder and the codes.
    """
    positions = positions.detach().requires_grad_(True)
    with torch.enable_grad():
        distance = decoder(positions, codes)
        (gradient,) = torch.autograd.grad(distance.sum(), positions, create_graph=True)
    direction = gradient / gradient.norm(dim=2, keepdim=True).clamp(min=1e-6)
    return positions - distance[..., None] * direction


def pull_loss(
    encoder: PatchEncoder, decoder: DistanceDecoder, patches: Tensor, *, noise: float = 0.1
) -> Tensor:
    """Compute the mean squared distance of pulled noisy points from the patch's nearest points.

    Args:
        encoder, decoder: to be trained.
        patches: ``(P, K, 3)``, of unit size.
        noise: standard deviation of the noise, as a share of the patch.
    """
    positions = patches + noise * torch.randn_like(patches)
    nearest = torch.cdist(positions, patches).argmin(dim=2)
    target = patches.gather(1, nearest[..., None].expand(-1, -1, 3))
    pulled = pull_to_surface(decoder, positions, encoder(patches))
    return (pulled - target).square().sum(dim=2).mean()


@torch.no_grad()
def surface_patches(
    batch: RGBDBatch, *, cells: int, points: int, step: int
) -> tuple[Tensor, Tensor]:
    """Extract the points nearest to the centre of every cell of a grid, centred and of unit size.

    Args:
        batch: with points.
        cells: per side of the grid.
        points: of a patch, K.
        step: stride of rows and columns at which points are used.

    Returns:
        Patches ``(N, cells, cells, K, 3)``, nearest points first, in units of the farthest one's
        distance, and the mask ``(N, cells, cells)`` of cells with a patch: those with a point, on
        parts with at least K points.

    Raises:
        DataError: the batch has no points.
    """
    if batch.xyz is None or batch.valid is None:
        raise DataError("Surface patches need 3D data, and this part has none.")
    count, size = len(batch.xyz), batch.xyz.shape[-1]
    side = size // cells
    patches = torch.zeros(count, cells, cells, points, 3)
    has_patch = torch.zeros(count, cells, cells, dtype=torch.bool)
    inside = ((batch.valid * batch.foreground)[:, 0] > 0.5).cpu().numpy()
    xyz = batch.xyz.permute(0, 2, 3, 1).cpu().numpy()
    for number in range(count):
        sampled = np.zeros_like(inside[number])
        sampled[::step, ::step] = inside[number, ::step, ::step]
        cloud = xyz[number][sampled]
        if len(cloud) < points:
            continue
        rows, columns = np.nonzero(sampled)
        cell = rows // side * cells + columns // side
        # The point of a cell nearest to the cell's centre is the patch's centre.
        offset = (rows % side - side / 2) ** 2 + (columns % side - side / 2) ** 2
        order = np.lexsort((offset, cell))
        centres = order[np.unique(cell[order], return_index=True)[1]]
        _, nearest = cKDTree(cloud).query(cloud[centres], k=points)
        centred = cloud[nearest] - cloud[centres][:, None]
        extent = np.linalg.norm(centred[:, -1], axis=1)[:, None, None]
        scaled = torch.from_numpy((centred / np.maximum(extent, 1e-9)).astype(np.float32))
        occupied = torch.from_numpy(cell[centres])
        patches[number].view(-1, points, 3)[occupied] = scaled
        has_patch[number].view(-1)[occupied] = True
    return patches.to(batch.xyz.device), has_patch.to(batch.xyz.device)
