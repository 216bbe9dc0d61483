"""Bring points that lie in no grid into the pixels of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEP_ERROR = 0.1  # of the pitch, from a point to its place in a lattice
_LEAST_FILLED = 0.2  # of a lattice's places


def nearest_of_pixel(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    depth: NDArray[np.floating],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """Return which point each pixel shows.

    Args:
        rows, columns: of the ``N`` points' pixels; those outside the image are left out.
        depth: ``(N,)``, the nearest point of a pixel is shown.
        size: height and width of the image.

    Returns:
        ``(H, W)``, the point's number, -1 where there is none.

    Example:
        >>> rows, columns = np.array([0, 0]), np.array([1, 1])
        >>> nearest_of_pixel(rows, columns, np.array([2.0, 1.0]), (1, 2)).tolist()
        [[-1, 1]]
    """
    height, width = size
    inside = np.flatnonzero((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width))
    # The last one that is written stays, so the nearest comes last; equal ones keep their order.
    order = inside[np.argsort(-depth[inside], kind="stable")]
    shown = np.full(height * width, -1, np.int64)
    shown[rows[order] * width + columns[order]] = order
    return shown.reshape(height, width)


def lattice(
    x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]] | None:
    """Return the rows and columns of points that lie in a lattice along x and y, or None.

    A profiler that moves in equal steps writes such points. Those of ``(N,)`` x and y must all be
    near a place of the lattice and fill a fifth of it.

    Example:
        >>> rows, columns, size = lattice(np.array([0, 1, 0, 1.0]), np.array([0, 0, 2, 2.0]))
        >>> rows.tolist(), columns.tolist(), size
        ([0, 0, 1, 1], [0, 1, 0, 1], (2, 2))
    """
    steps = [_places(values) for values in (y, x)]
    if steps[0] is None or steps[1] is None:
        return None
    rows, columns = steps[0], steps[1]
    size = int(rows.max()) + 1, int(columns.max()) + 1
    if len(x) < _LEAST_FILLED * size[0] * size[1]:
        return None
    if len(np.unique(rows * size[1] + columns)) < len(x):
        return None  # two points at one place
    return rows, columns, size


def _places(values: NDArray[np.floating]) -> NDArray[np.int64] | None:
    """Return the places of numbers that are multiples of one step, or None."""
    different = np.unique(np.asarray(values, np.float64))
    if len(different) < 2:
        return None
    gaps = np.diff(different)
    gaps = gaps[gaps > 1e-4 * gaps.max()]  # float32 writes one number as several neighbours
    step = float(np.median(gaps))
    extent = different[-1] - different[0]
    step = extent / max(round(extent / step), 1)
    places = (values - different[0]) / step
    whole = np.rint(places)
    if np.abs(places - whole).max() > _STEP_ERROR:
        return None
    return whole.astype(np.int64)
