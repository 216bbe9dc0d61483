"""Whether organised points lie as pixels do, and the view of those that a profiler measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import BoolArray, FloatArray

_STEP_ERROR = 0.1  # of the pitch, from a point of a profiler to its place in the lattice
_NEAR = 0.5  # of the extent: heights lie nearer to the plane through the origin
_LEAST = 8  # rows and columns
_JUMP = 0.15  # of the extent, between most neighbours of points that lie in another order
_SPARSE = 16  # every so many rows are compared
_OF_ZERO = 0.01  # share of the pixels


def without_zero_depth(
    points: NDArray[np.floating], absent: BoolArray, remarks: list[str]
) -> BoolArray:
    """Return where nothing was measured, with the points whose z alone is 0.

    Some programs keep x and y of a pixel without depth. Far from all others 0 is such a mark; amid
    heights it may be one, which a remark says.

    Args:
        points: ``(..., 3)``, of any unit.
        absent: ``(...)``, what is known to be missing.
        remarks: gets what was assumed.
    """
    zero = ~absent & (points[..., 2] == 0) & points[..., :2].any(axis=-1)
    share = float(np.count_nonzero(zero)) / max(zero.size, 1)
    if not share:
        return absent
    others = np.abs(points[..., 2][~absent & ~zero])
    if others.size and others.min() > 0.5 * np.ptp(others):
        remarks.append("Points whose z alone is 0 are taken for missing.")
        return absent | zero
    if share > _OF_ZERO:
        remarks.append(
            f"At {share:.0%} of the pixels z is exactly 0: if that marks what was not measured, "
            "name it (--missing 0)."
        )
    return absent


def check_order(xyz: FloatArray, source: str) -> None:
    """Refuse organised points ``(H, W, 3)`` whose neighbours do not lie beside each other.

    Raises:
        DataError: most neighbours along the rows or the columns are far apart: the points are in
            another order than row by row, or rows and columns are exchanged.
    """
    if min(xyz.shape[:2]) < _LEAST:
        return
    step = max(1, xyz.shape[0] // (_SPARSE * _LEAST))
    measured = xyz[::step].any(axis=2)
    if np.count_nonzero(measured) < _LEAST**2:
        return
    low, high = np.percentile(xyz[::step][measured], [2, 98], axis=0)
    extent = float(np.linalg.norm(high - low))
    for axis, along in ((1, "rows"), (0, "columns")):
        first, second = (
            (xyz[::step, :-1], xyz[::step, 1:]) if axis else (xyz[:-1:step], xyz[1::step])
        )
        count = min(len(first), len(second))
        first, second = first[:count], second[:count]
        both = first.any(axis=2) & second.any(axis=2)
        if np.count_nonzero(both) < _LEAST**2:
            continue
        jump = float(np.median(np.linalg.norm(second[both] - first[both], axis=1)))
        if jump > _JUMP * extent:
            raise DataError(
                f"{source} is organised as {xyz.shape[0]} x {xyz.shape[1]}, and neighbours along "
                f"its {along} lie {jump:.3g} m apart, in a frame of {extent:.3g} m: its points are "
                "in another order than row by row, or height and width are exchanged. Save the "
                "sensor's grid row by row, or leave the order out and give the camera "
                "(--intrinsics with width and height)."
            )


def seen_from_above(
    xyz: FloatArray, source: str, *, up: bool = True, offset_m: float = 0.0
) -> FloatArray | None:
    """Return a profiler's points as a camera far above sees them; None of other points.

    The columns of a profiler lie in equal steps along x, its rows along y, whatever the height, and
    z are heights near 0: from the origin a part would be seen from within. The new origin lies
    above the middle of the map, by its longer side.

    Args:
        xyz: ``(H, W, 3)`` metres, 0 where missing.
        source: names it in messages.
        up: whether z grows towards the sensor.
        offset_m: metres added to the heights.

    Raises:
        DataError: a height lies above the new origin.
    """
    height, width = xyz.shape[:2]
    if min(height, width) < _LEAST:
        return None
    sparse = xyz[:: max(1, height // 64), :: max(1, width // 64)]
    few = sparse[sparse.any(axis=2)]
    if len(few) < _LEAST or np.median(np.abs(few[:, 2])) > _NEAR * np.ptp(few[:, :2], axis=0).max():
        return None
    measured = np.asarray(xyz.any(axis=2))
    across, along = _lattice_line(xyz[..., 0], measured, 0), _lattice_line(xyz[..., 1], measured, 1)
    if across is None or along is None:
        return None
    (x0, pitch_x), (y0, pitch_y) = across, along
    origin = max(height * abs(pitch_y), width * abs(pitch_x))
    heights = xyz[..., 2].astype(np.float64) + offset_m
    z = origin - heights if up else origin + heights
    if z[measured].min() <= 0:
        nearest = float(heights[measured].max() if up else heights[measured].min())
        raise DataError(
            f"{source} has heights of {1e3 * nearest:.4g} mm in a map that is {1e3 * origin:.4g} "
            "mm wide. Name an offset that brings all parts near 0 (--offset "
            f"{offset_m - nearest:.3g}, in metres; the same for all)."
        )
    # x grows with the columns, and y with the rows.
    x = (xyz[..., 0] - x0 - pitch_x * (width - 1) / 2) * np.sign(pitch_x)
    y = (xyz[..., 1] - y0 - pitch_y * (height - 1) / 2) * np.sign(pitch_y)
    points = np.stack([x, y, z], axis=2)
    points[~measured] = 0
    return points.astype(np.float32)


ABOVE = (
    "x and y lie in equal steps and z near 0, as a profiler measures: z was taken for heights that "
    "grow towards the sensor (--down: away from it)."
)


def _lattice_line(
    values: NDArray[np.floating], measured: BoolArray, axis: int
) -> tuple[float, float] | None:
    """Return the first place and the pitch of a coordinate that is one number in each line.

    ``axis`` 0: of each column, 1: of each row. None if it is none, or in unequal steps.
    """
    lines = np.where(measured, values, np.nan)
    lines = lines if axis == 0 else lines.T
    filled = np.flatnonzero(measured.any(axis=axis))
    if len(filled) < _LEAST:
        return None
    middle = np.nanmedian(lines[:, filled], axis=0)
    pitch, first = np.polyfit(filled, middle, 1)
    off = np.abs(lines[:, filled] - (first + pitch * filled))
    if not pitch or np.nanpercentile(off, 99.9) > _STEP_ERROR * abs(pitch):
        return None
    return float(first), float(pitch)
