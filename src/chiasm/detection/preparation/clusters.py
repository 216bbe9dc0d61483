"""Connected regions above the support plane: the part, and what lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.preparation.surface import padded, window_of
from chiasm.samples import BoolArray

OTHER_SHARE = 0.1  # of the largest region's area, from which another one is an object


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connected region of a frame.

    Attributes:
        top, left, height, width: its box in the frame, in pixels.
        size: pixels, gaps and holes not counted.
        inside: whether it does not touch the frame's border.
        mask: ``(height, width)`` within its box, with holes filled.
    """

    top: int
    left: int
    height: int
    width: int
    size: int
    inside: bool
    mask: BoolArray

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the middle of its box."""
        return self.top + self.height / 2, self.left + self.width / 2

    def in_frame(self, shape: tuple[int, ...]) -> BoolArray:
        """Return its mask ``(H, W)`` in the frame."""
        frame = np.zeros(shape, np.bool_)
        box = (slice(self.top, self.top + self.height), slice(self.left, self.left + self.width))
        frame[box] = self.mask
        return frame


def objects_in(object_points: BoolArray, *, closing: int, least: int = 1) -> list[Cluster]:
    """Return the objects among points ``(H, W)``: the one that ``largest_cluster`` takes is first.

    Others have at least ``OTHER_SHARE`` of its size, largest first. Gaps are closed as there.

    Args:
        object_points: ``(H, W)``.
        closing: radius in pixels.
        least: pixels of the smallest object.
    """
    if not object_points.any():
        return []
    window = window_of(object_points)
    points = object_points[window]
    closing = max(closing, 1)
    square = np.ones((2 * closing + 1, 2 * closing + 1), np.uint8)
    closed = cv2.morphologyEx(padded(points, closing), cv2.MORPH_CLOSE, square)
    closed = closed[closing:-closing, closing:-closing]
    # Labels of 16 bits take half the time, if they suffice.
    height, width = points.shape
    kind = cv2.CV_16U if (height + 1) // 2 * ((width + 1) // 2) < 2**16 - 1 else cv2.CV_32S
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(closed, None, None, None, 8, kind)
    rows, columns = object_points.shape
    sizes = boxes[1:, 4]
    left, top = boxes[1:, 0] + window[1].start, boxes[1:, 1] + window[0].start
    inside = (left > 0) & (top > 0)
    inside &= (left + boxes[1:, 2] < columns) & (top + boxes[1:, 3] < rows)
    inner = np.where(inside, sizes, 0)
    ranked = inner if inner.max() > 0.1 * sizes.max() else sizes
    # Of equal ones, the one whose first pixel comes first: as in ``largest_cluster``.
    tied = np.flatnonzero(ranked == ranked.max()) + 1
    best = int(tied[0]) - 1
    if len(tied) > 1:
        best = int(labels.flat[np.isin(labels, tied).argmax()]) - 1
    order = [i for i in np.argsort(-sizes, kind="stable").tolist() if i != best]
    large = max(OTHER_SHARE * float(sizes[best]), least)
    return [
        Cluster(
            int(top[i]),
            int(left[i]),
            int(boxes[i + 1, 3]),
            int(boxes[i + 1, 2]),
            int(sizes[i]),
            bool(inside[i]),
            _without_holes(labels, i + 1, boxes[i + 1]),
        )
        for i in [best, *order]
        if i == best or sizes[i] >= large
    ]


def in_reading_order(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Sort objects row by row, from the left.

    A row's objects have middles that differ by less than half of the first one's height.
    """
    rows: list[list[Cluster]] = []
    for cluster in sorted(clusters, key=lambda c: c.centre):
        if rows and cluster.centre[0] - rows[-1][0].centre[0] < rows[-1][0].height / 2:
            rows[-1].append(cluster)
        else:
            rows.append([cluster])
    return [cluster for row in rows for cluster in sorted(row, key=lambda c: c.centre[1])]


def with_others(found: Sequence[Cluster], mode: str) -> tuple[list[Cluster], tuple[str, ...]]:
    """Return the part and the further objects of a frame, and remarks on these.

    What the frame's border cuts off is none: walls and fixtures cross it.

    Args:
        found: of ``objects_in``, the part first.
        mode: ``largest``, ``all`` or ``split``.
    """
    part = found[0]
    others = [each for each in found[1:] if each.inside]
    cut = [each for each in found[1:] if not each.inside and 2 * each.size > part.size]
    notes: tuple[str, ...] = ()
    if mode == "largest" and others:
        several = "1 more object lies" if len(others) == 1 else f"{len(others)} more objects lie"
        notes = (
            f"{several} in the frame ({places_in_words(part, others)}), and nothing looks there: "
            "only the largest object is judged. Train with objects=split or objects=all for more.",
        )
    elif mode != "largest" and cut:
        notes = ("Objects that the frame's border cuts off are not looked at.",)
    return [part, *others], notes


def places_in_words(chosen: Cluster, others: Sequence[Cluster]) -> str:
    """Return where objects lie, seen from one of them, e.g. ``left of it, below it``."""
    words = []
    for other in others:
        down, right = (b - a for a, b in zip(chosen.centre, other.centre))
        if abs(right) >= abs(down):
            words.append("right of it" if right > 0 else "left of it")
        else:
            words.append("below it" if down > 0 else "above it")
    return ", ".join(dict.fromkeys(words))


def _without_holes(labels: NDArray[Any], label: int, box: NDArray[Any]) -> BoolArray:
    left, top, width, height = (int(v) for v in box[:4])
    ground = padded(np.asarray(labels[top : top + height, left : left + width] == label), 1)
    cv2.floodFill(ground, None, (0, 0), 2, flags=4)
    return np.asarray(ground[1:-1, 1:-1] != 2)
