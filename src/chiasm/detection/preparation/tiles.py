"""Overlapping tiles of a crop, for frames whose defects are too small at the network's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from chiasm.samples import BoolArray, CropBox, PreparedSample

Tiles = int | Literal["auto"] | None
GRID = 32  # pixels that tiles begin at multiples of, as the strides of all networks divide it
OVERLAP = 0.25  # of a tile's side, at least, that it shares with the next one
MOST = 4  # tiles a side
LEAST_OBJECT = 0.01  # of a tile, below which it shows too little to be learnt from

_IMAGES = ("rgb", "xyz", "height", "normals", "depth", "valid", "foreground", "mask")


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Squares of the network's size that cover a crop, in rows.

    Attributes:
        tile: side of a tile in pixels, the network's size.
        count: tiles a side.
        step: pixels from one tile to the next.
    """

    tile: int
    count: int
    step: int

    def __post_init__(self) -> None:
        if self.count < 2 or not 0 < self.step <= self.tile or self.step % GRID:
            raise ValueError(f"{self} covers no crop by tiles that share pixels.")

    @property
    def side(self) -> int:
        """Side of the crop in pixels."""
        return self.tile + (self.count - 1) * self.step

    @property
    def number(self) -> int:
        """Tiles of a part."""
        return self.count**2

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """Row and column of each tile's first pixel."""
        starts = [number * self.step for number in range(self.count)]
        return tuple((top, left) for top in starts for left in starts)

    def in_words(self, frame_pixels: float | None = None) -> str:
        """Return what the tiles are and cost, as a sentence.

        Args:
            frame_pixels: of the frame, that the crop is wide; None where that is not known.
        """
        seen = ""
        if frame_pixels is not None:
            now, before = frame_pixels / self.side, frame_pixels / self.tile
            seen = (
                f" A pixel of the crop is {now:.2g} of the frame's, not {before:.2g}: a defect is "
                f"3 pixels of the crop from {3 * now:.2g} pixels of the frame on."
            )
        return (
            f"The crop is looked at in {self.count} x {self.count} tiles of {self.tile} pixels "
            f"that overlap, {self.side} x {self.side} in all.{seen} Every part costs "
            f"{self.number} times the network's milliseconds."
        )


def tile_plan(tiles: Tiles, *, size: int, frame_pixels: float) -> TilePlan | None:
    """Plan the tiles of crops; None where one look at the whole crop is enough.

    ``auto`` takes as few as bring a pixel of the crop to one of the frame, where there is nothing
    more to see, and ``MOST`` a side at most.

    Args:
        tiles: a side, as a run's settings give them.
        size: of the network, pixels.
        frame_pixels: of the frame, that a crop is wide.
    """
    if tiles is None:
        return None
    step = max(GRID, math.floor((1 - OVERLAP) * size / GRID) * GRID)
    if tiles == "auto":
        needed = 1 + math.ceil((frame_pixels - size) / step - 0.1)
        count = min(max(needed, 1), MOST)
    else:
        count = tiles
    return None if count < 2 else TilePlan(size, count, step)


def tile_of(part: PreparedSample, plan: TilePlan, number: int) -> PreparedSample:
    """Cut a tile out of a prepared part; all of its images are views."""
    top, left = plan.corners[number]
    rows, columns = slice(top, top + plan.tile), slice(left, left + plan.tile)
    images: dict[str, Any] = {
        name: None if (image := getattr(part, name)) is None else image[rows, columns]
        for name in _IMAGES
    }
    scale = part.box.side / plan.side
    box = CropBox(
        top=part.box.top + round(top * scale),
        left=part.box.left + round(left * scale),
        side=max(1, round(plan.tile * scale)),
        height=part.box.height,
        width=part.box.width,
    )
    mask = images["mask"]
    label = part.label if mask is None or part.label != 1 else int(mask.any())
    return replace(part, **images, box=box, label=label)


def shows_object(foreground: BoolArray, plan: TilePlan) -> list[int]:
    """Return the numbers of the tiles of a foreground ``(S, S)`` that show enough to learn from."""
    shares = [
        foreground[top : top + plan.tile, left : left + plan.tile].mean()
        for top, left in plan.corners
    ]
    return [number for number, share in enumerate(shares) if share >= LEAST_OBJECT]


class TiledParts(Sequence[PreparedSample]):
    """Tiles of parts as parts; each is cut when it is used.

    Args:
        parts: prepared at the plan's ``side``.
        plan: of the tiles.
    """

    def __init__(self, parts: Sequence[PreparedSample], plan: TilePlan) -> None:
        self._parts, self._plan = parts, plan
        self._last: tuple[int, PreparedSample] | None = None
        self._places = [
            (position, number)
            for position in range(len(parts))
            for number in shows_object(parts[position].foreground, plan)
        ]

    @property
    def origins(self) -> list[int]:
        """Position of the part of each tile."""
        return [position for position, _ in self._places]

    def drawn(self, most: int, *, seed: int) -> set[int]:
        """Draw positions of tiles, ``most`` at most of each part."""
        generator = np.random.default_rng(seed)
        by_part: dict[int, list[int]] = {}
        for place, position in enumerate(self.origins):
            by_part.setdefault(position, []).append(place)
        return {
            int(place)
            for places in by_part.values()
            for place in generator.permutation(places)[:most]
        }

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> PreparedSample:  # type: ignore[override]  # no slices
        position, number = self._places[index]
        if self._last is None or self._last[0] != position:
            # Tiles of one part are mostly used after each other, and a part may be rotated each
            # time that it is asked for.
            self._last = position, self._parts[position]
        return tile_of(self._last[1], self._plan, number)
