"""A detector that looks at a crop in overlapping tiles and joins their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.detection.detector import Detector
from chiasm.detection.layers.image_score import ImageScoreRule, Term
from chiasm.detection.preparation.tiles import TilePlan
from chiasm.samples import RGBDBatch


class TiledDetector(Detector):
    """A detector on the tiles of crops of ``(side, side)`` pixels.

    A tile's map counts the less, the nearer a pixel lies to the tile's border, where the network
    sees less around it. The score of a part is that of the joined map under the detector's own
    rule, whose windows keep their size in pixels.

    Args:
        inner: detector of one tile.
        plan: of the tiles.
    """

    weights: Tensor

    def __init__(self, inner: Detector, plan: TilePlan) -> None:
        super().__init__()
        self.inner = inner
        self.plan = plan
        self.maps = inner.maps
        self.map_link = inner.map_link
        self.image_rule = inner.image_rule
        weights = tile_weights(plan)
        total = sum(_placed(weights, plan, corner) for corner in plan.corners)
        assert isinstance(total, Tensor)
        shares = [
            weights / total[top : top + plan.tile, left : left + plan.tile]
            for top, left in plan.corners
        ]
        self.register_buffer("weights", torch.stack(shares), persistent=False)

    @property
    def core(self) -> Detector:
        """The detector of one tile."""
        return self.inner

    @property
    def export_obstacle(self) -> str | None:
        """Why there is no graph of it; None where there is one."""
        return self.inner.export_obstacle

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the frozen features."""
        return self.inner.pretrained_weights

    @property
    def refits_agree(self) -> bool:
        """As of the detector of one tile."""
        return self.inner.refits_agree

    @property
    def keeps_products_apart(self) -> bool:
        """As of the detector of one tile."""
        return self.inner.keeps_products_apart

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load saved weights; raises ``RuntimeError`` or ``KeyError`` where they do not fit."""
        prefix = "inner."
        self.inner.restore({name.removeprefix(prefix): value for name, value in state.items()})

    def forward(self, batch: RGBDBatch) -> Any:
        """Run the detector on all tiles, as one batch ``(N T, ...)``."""
        images = {f.name: getattr(batch, f.name) for f in fields(batch)}
        index = images.pop("index")
        tiles: dict[str, Any] = {
            name: None if image is None else self.cut(image) for name, image in images.items()
        }
        if index is not None:
            index = index.repeat_interleave(self.plan.number)
        return self.inner(RGBDBatch(**tiles, index=index))

    def cut(self, images: Tensor) -> Tensor:
        """Cut images ``(N, C, S, S)`` into tiles ``(N T, C, s, s)``."""
        tile = self.plan.tile
        tiles = [
            images[:, :, top : top + tile, left : left + tile] for top, left in self.plan.corners
        ]
        return torch.stack(tiles, dim=1).flatten(0, 1)

    def joined(self, maps: Tensor) -> Tensor:
        """Join maps of tiles ``(N T, 1, s, s)`` to ``(N, 1, S, S)``: weighted means."""
        weighted = maps.unflatten(0, (-1, self.plan.number)) * self.weights[:, None]
        pieces = [
            _placed(weighted[:, number], self.plan, corner)
            for number, corner in enumerate(self.plan.corners)
        ]
        total = pieces[0]
        for piece in pieces[1:]:
            total = total + piece
        return total

    def scores(self, output: Any, foreground: Tensor) -> Tensor:
        """Compute anomaly maps ``(N, 1, S, S)`` of whole crops, 0 off the object."""
        return self.joined(self.inner.scores(output, self.cut(foreground)))

    def published_scores(self, output: Any) -> Tensor | None:
        """Return the largest of the tiles' scores by the method's own rule, if it has one."""
        published = self.inner.published_scores(output)
        if published is None:
            return None
        return published.unflatten(0, (-1, self.plan.number)).amax(dim=1)

    @property
    def windowed_rule(self) -> ImageScoreRule:
        """The rule with windows as shares of the crop's side, not of a tile's."""
        share = self.plan.tile / self.plan.side
        return replace(self.image_rule, terms=tuple(_shrunk(self.image_rule.terms, share)))


def tile_weights(plan: TilePlan) -> Tensor:
    """Return the weights ``(s, s)`` of a tile's pixels: they fall linearly across the overlap."""
    overlap = max(1, plan.tile - plan.step)
    place = torch.arange(plan.tile, dtype=torch.float32)
    ramp = (torch.minimum(place, plan.tile - 1 - place) + 1).clamp(max=overlap) / overlap
    return ramp[:, None] * ramp[None]


def _placed(maps: Tensor, plan: TilePlan, corner: tuple[int, int]) -> Tensor:
    """Put ``(..., s, s)`` at its corner of zeros ``(..., S, S)``."""
    top, left = corner
    rest = plan.side - plan.tile
    return F.pad(maps, (left, rest - left, top, rest - top))


def _shrunk(terms: Sequence[Term], share: float) -> list[Term]:
    return [
        replace(term, size=term.size * share) if term.statistic == "local_mean" else term
        for term in terms
    ]
