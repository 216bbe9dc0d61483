"""Distances of parts from the camera; they reveal points in millimetres before scoring."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import FloatArray, PreparedSample

# Metres; a camera that shows faults of parts is nearer, and points in millimetres lie beyond.
MAX_PLAUSIBLE = 50.0
# Metres; frames of parts are neither so wide nor so far away.
MAX_USUAL = 10.0
FAR = 3.0  # metres, beyond which the unit that was assumed is told
NEAR = 5e-4  # metres, below which a unit that was given is doubted
_LENGTHS = (1.0, 1e-3, 2.5e-4, 1e-4, 1e-5, 1e-6)  # metres of one unit that sensors write
_PARTS = (0.02, 10.0)  # metres, between which parts lie before a camera
_LEAST_LEVELS = 8  # different depths that are all whole centimetres
# Largest ratio of a part's distance to those at calibration; beyond it the unit differs.
MAX_RATIO = 20.0
_STEP = 4  # every fourth row and column is measured


def check_metres(xyz: FloatArray, name: str) -> None:
    """Refuse points that are too far away to be in metres.

    Args:
        xyz: ``(H, W, 3)``, 0 where missing.
        name: of the part or its file, for the message.

    Raises:
        DataError: the median point is more than ``MAX_PLAUSIBLE`` metres from the camera.
    """
    if max(xyz.max(), -xyz.min()) * 3**0.5 <= MAX_PLAUSIBLE:
        return  # no point can be so far away
    points = xyz[::_STEP, ::_STEP]
    distances = np.sqrt(np.square(points, dtype=np.float64).sum(axis=2))
    distances = distances[distances > 0]
    distance = float(np.median(distances)) if distances.size else 0.0
    if distance > MAX_PLAUSIBLE:
        raise DataError(
            f"The points of {name} are {distance:.4g} away from the camera, too far for metres. "
            f"{_another_unit(distance)}",
            see="unit",
        )


def _another_unit(distance: float) -> str:
    """Return which unit a distance that is none in metres seems to be in, as a sentence."""
    if distance * 1e-3 <= _PARTS[1]:
        return (
            "They seem to be in millimetres: divide by 1000, or convert the data with "
            "'chiasm data convert ... --unit 0.001'."
        )
    return (
        f"Their unit is another one ({distances_by_unit(distance) or 'none that sensors write'}): "
        "convert the data with 'chiasm data convert ... --unit METRES'."
    )


def distances_by_unit(median: float, *, besides: float | None = None) -> str:
    """Return how far away values are in each unit that brings them before a camera; "" for none.

    ``besides`` is a unit that is left out.

    Example:
        >>> distances_by_unit(5985)
        '0.001: 5.99 m, 0.00025: 1.5 m, 0.0001: 0.599 m, 0.00001: 0.0599 m'
    """
    return ", ".join(
        f"{np.format_float_positional(unit, trim='-')}: {median * unit:.3g} m"
        for unit in _LENGTHS
        if _PARTS[0] <= median * unit <= _PARTS[1] and unit != besides
    )


def doubts_of_unit(xyz: FloatArray, unit_m: float) -> tuple[str, ...]:
    """Return a remark where the unit that was given puts points at no usual distance."""
    distance = median_distance(xyz)
    if not (distance > FAR or distance < NEAR):
        return ()
    others = distances_by_unit(distance / unit_m, besides=unit_m)
    return (
        f"With --unit {unit_m:g} the points are about {distance:.3g} m away. If that is wrong, "
        f"another unit is right{f' ({others})' if others else ''}.",
    )


def check_unit(xyz: FloatArray, name: str) -> tuple[str, ...]:
    """Refuse points whose unit nobody named, and that are hardly in metres.

    Frames of parts are neither 10 m wide nor 10 m away, and no sensor measures in whole
    centimetres; in millimetres all three are usual.

    Args:
        xyz: ``(H, W, 3)``, 0 where missing.
        name: of the file, for the message.

    Returns:
        A remark where parts are farther away than usual, though not too far.

    Raises:
        DataError: with what tells it.
    """
    sparse = xyz[::_STEP, ::_STEP]
    points = sparse[sparse.any(axis=2)].astype(np.float64)
    if not len(points):
        return ()
    evidence = _evidence_of_millimetres(points)
    if evidence:
        raise DataError(
            f"The points of {name} would be {float(np.median(np.abs(points[:, 2]))):.4g} m away, "
            f"if they were in metres, and {evidence}. "
            f"{_another_unit(float(np.median(np.abs(points[:, 2]))))} --unit 1 insists on metres."
        )
    distance = float(np.median(np.abs(points[:, 2])))
    if distance <= FAR:
        return ()
    return (
        f"The points are about {distance:.1g} m away, if they are in metres as is assumed; those "
        "in millimetres need 'chiasm data convert ... --unit 0.001'.",
    )


def _evidence_of_millimetres(points: NDArray[np.float64]) -> str:
    """Return what speaks against metres, "" without anything; of points ``(N, 3)``."""
    distance = float(np.median(np.abs(points[:, 2])))
    if distance > MAX_USUAL:
        return f"that is more than {MAX_USUAL:g} m"
    low, high = np.percentile(points[:, :2], [2, 98], axis=0)
    extent = float((high - low).max())
    if extent > MAX_USUAL:
        return f"the frame {extent:.4g} m wide"
    z = points[:, 2]
    steps = z * 100
    whole = np.abs(steps - np.rint(steps)) < 1e-4 * np.maximum(1, np.abs(steps))
    if whole.all() and len(np.unique(np.rint(steps))) >= _LEAST_LEVELS:
        return "all of them in whole centimetres"
    return ""


def check_distance(xyz: FloatArray, calibrated: tuple[float, float] | None, name: str) -> None:
    """Refuse a part whose distance reveals another unit than that of the calibration parts.

    Args:
        xyz: ``(H, W, 3)`` metres, 0 where missing.
        calibrated: range of the calibration parts' distances; None if it is unknown.
        name: of the part, for the message.

    Raises:
        DataError: the part is more than ``MAX_RATIO`` times farther or nearer than those parts.
    """
    if calibrated is None:
        return
    distance = median_distance(xyz)
    nearest, farthest = calibrated
    if np.isnan(distance) or nearest / MAX_RATIO <= distance <= farthest * MAX_RATIO:
        return
    unit = " It seems to be in millimetres: divide by 1000." if distance > farthest else ""
    raise DataError(
        f"{name} is {distance:.4g} away along z, but parts were {nearest:.3g} to "
        f"{farthest:.3g} metres away at training; xyz must be in metres.{unit}"
    )


def median_distance(xyz: FloatArray) -> float:
    """Return the median |z| of a sparse grid of measured points; NaN without such a point."""
    z = np.abs(xyz[::_STEP, ::_STEP, 2])
    measured = z[z > 0]
    return float(np.median(measured)) if measured.size else float("nan")


def distance_range(parts: Iterable[PreparedSample]) -> tuple[float, float] | None:
    """Return the range of the parts' median distances in metres; None without 3D points."""
    medians = [
        float(np.median(np.abs(part.xyz[..., 2][part.valid])))
        for part in parts
        if part.xyz is not None and part.valid.any()
    ]
    return (min(medians), max(medians)) if medians else None
