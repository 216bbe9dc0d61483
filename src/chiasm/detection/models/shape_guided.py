"""Shape-Guided: normal shapes as codes of implicit surfaces, and the colours that go with each.

References:
    Chu et al., Shape-Guided Dual-Memory Learning for 3D Anomaly Detection, ICML 2023.

Small pieces of a surface as a code and a signed distance: neural implicit functions of patches.

References:
    Ma et al., Neural-Pull: Learning Signed Distance Functions from Point Clouds by Learning to
    Pull Space onto Surfaces, ICML 2021; Chu et al., Shape-Guided Dual-Memory Learning for 3D
    Anomaly Detection, ICML 2023, Section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Described, Learn, Observe, Step
from chiasm.detection.layers.backbones import make_backbone
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.memory_bank import MEGABYTE, MemoryBank
from chiasm.detection.layers.patches import PatchFeatures, Standardisation, scatter
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

CODE = 128

SHOWN = 128  # patches of a step, at most

_CHUNK = 512  # patches that are judged at a time


class ShapeGuided(Baseline):
    """Two memories: codes of normal shapes, and for each code colours that were seen with it.

    A patch's code is told by its nearest normal codes. What they mean is a surface; how far the
    patch's own points lie from it is the first score. Colours are compared only with those that go
    with these codes; that distance is the second. Each is taken in units of its usual size, and the
    larger one counts.

    Args:
        patches: of the colour picture; None looks at shapes alone.
        shapes: memory of codes.
        colours: colours kept with each code.
        points: of a patch.
        neighbours: normal codes that tell a patch's code.
        epochs: of the implicit surface.
        step: every so many rows and columns of the points serve.
        stride: pixels to a patch.
    """

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
        self._away: list[Tensor] = []
        colour = () if patches is None else (Observe("statistics"),)
        link = () if patches is None else (Observe("colours"),)
        steps: tuple[Step, ...] = (
            *colour,
            Learn("surface", ("encoder", "decoder"), epochs=epochs, batch=4, exact=True),
            Observe("shapes"),
            *link,
            Observe("usual"),
        )
        self.steps = steps

    @property
    def pretrained_weights(self) -> str | None:
        """Of the colour features."""
        return None if self.patches is None else str(self.patches.backbone.weights)

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Surface patches, which cells have one, and colour features of the cells."""
        cells = batch.foreground.shape[-1] // self.stride
        shape, inside = surface_patches(batch, cells=cells, points=self.points, step=self.step)
        found = {"shape": shape, "inside": inside}
        if self.patches is not None:
            found["colour"] = self.patches(images_of(batch, "rgb"))
        return found

    def loss(self, step: str, batch: Described) -> Tensor:  # type: ignore[override]
        """Places around the points of some patches are to be pulled onto them."""
        patches = batch["shape"][batch["inside"]]
        some = torch.randperm(len(patches), device=patches.device)[:SHOWN]
        return pull_loss(self.encoder, self.decoder, patches[some])

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """See the colours' spread; keep codes; keep colours with them; see usual distances."""
        inside = described["inside"]
        owners = index.view(-1, 1, 1).expand_as(inside)[inside]
        if step == "statistics":
            self.standard.add(described["colour"].permute(0, 2, 3, 1)[inside])
        elif step == "shapes":
            self.shapes.add(self.encoder(described["shape"][inside]), owners)
        elif step == "colours":
            self._link(self.encoder(described["shape"][inside]), self._colour(described))
        else:
            self._away.append(self._distances(described, owners))

    def finish(self, step: str) -> None:
        """Settle statistics, memory, or usual distances."""
        if step == "statistics":
            self.standard.finish()
        elif step == "shapes":
            self.shapes.finish()
            entries = len(self.shapes.descriptors)
            dimension = 0 if self.patches is None else self.patches.dimension
            self.linked = torch.zeros(entries, self.colours, dimension)
            self.count = torch.zeros(entries, dtype=torch.int64)
        elif step == "usual":
            away = torch.cat(self._away)
            self._away = []
            self.usual = away.mean(dim=0).clamp(min=1e-6)

    def judge(self, described: Described) -> BaselineOutput:
        """The larger of both distances, in units of their usual size."""
        away = self._distances(described, None) / self.usual
        return BaselineOutput(raw=scatter(away.amax(dim=1), described["inside"]))

    def _distances(self, described: Described, owners: Tensor | None) -> Tensor:
        """Distances ``(M, 2)`` of the patches inside: of shape, and of colour (0 without)."""
        patches = described["shape"][described["inside"]]
        colour = self._colour(described) if self.patches is not None else None
        found = []
        for start in range(0, len(patches), _CHUNK):
            here = slice(start, start + _CHUNK)
            own = None if owners is None else owners[here]
            codes = self.encoder(patches[here])
            away, number = self.shapes(codes, own, count=self.neighbours)
            # Nearer codes say more; a softmax over distances in units of the nearest one.
            weight = torch.softmax(-away / away[:, :1].clamp(min=1e-6), dim=1)
            told = torch.einsum("mk,mkc->mc", weight, self.shapes.descriptors[number])
            near = patches[here][:, : max(1, self.points // 4)]
            shape = self.decoder(near, told).abs().mean(dim=1)
            if colour is None:
                found.append(torch.stack([shape, torch.zeros_like(shape)], dim=1))
                continue
            linked = self.linked[number].flatten(1, 2)  # m k l d -> m (k l) d
            empty = torch.arange(self.colours) >= self.count[number][..., None]
            gap = (linked - colour[here][:, None]).norm(dim=2)
            gap = gap.masked_fill(empty.flatten(1), torch.inf).amin(dim=1)
            # With every colour of these codes missing there is nothing to compare.
            found.append(torch.stack([shape, gap.nan_to_num(posinf=0.0)], dim=1))
        return torch.cat(found) if found else patches.new_zeros(0, 2)

    def _colour(self, described: Described) -> Tensor:
        rows: Tensor = self.standard(described["colour"].permute(0, 2, 3, 1)[described["inside"]])
        return rows

    def _link(self, codes: Tensor, colour: Tensor) -> None:
        """Keep each colour with the code nearest to its patch's, while there is room."""
        for start in range(0, len(codes), _CHUNK):
            here = slice(start, start + _CHUNK)
            nearest = self.shapes(codes[here])[1][:, 0]
            # The place of a row among those of the same code in this chunk.
            order = nearest.argsort(stable=True)
            ranked = nearest[order]
            begins = torch.searchsorted(ranked, ranked)
            rank = torch.empty_like(nearest)
            rank[order] = torch.arange(len(nearest)) - begins
            place = self.count[nearest] + rank
            room = place < self.colours
            self.linked[nearest[room], place[room]] = colour[here][room]
            added = torch.bincount(nearest[room], minlength=len(self.count))
            self.count += added

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # As many entries as the memory of shapes was left with.
        for name in ("linked", "count"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)


@register("detector", baseline=True)
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
    """Shape-Guided: implicit surfaces of normal patches, and colours remembered with each."""
    if "geometry" not in modalities:
        raise ConfigurationError("Shape-Guided looks at shapes first: it needs geometry.")
    patches = None
    if "rgb" in modalities:
        patches = PatchFeatures(
            backbone=make_backbone(backbone, weights_file=weights_file, pretrained=pretrained)
        )
    kept = 0 if patches is None else colours * patches.dimension
    # Both memories share the budget: a code costs its own bytes and those of its colours.
    per_entry = 4 * CODE + 8
    share = per_entry / (per_entry + 4 * kept + 8)
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
