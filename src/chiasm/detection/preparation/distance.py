"""How far away parts are: what tells metres from millimetres before a score is wrong."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from chiasm.errors import DataError
from chiasm.samples import FloatArray, PreparedSample

# Metres; a camera that sees the faults of parts is nearer, and points in millimetres are beyond.
MOST_PLAUSIBLE = 50.0
# Times that a part may be farther or nearer than those of the calibration: beyond it is the unit.
MOST_TIMES = 20.0
_EACH = 4  # pixels between those that are looked at


def check_metres(xyz: FloatArray, what: str) -> None:
    """Refuse points that can hardly be in metres.

    Args:
        xyz: ``(H, W, 3)``, 0 where missing.
        what: names the part or its file in the message.

    Raises:
        DataError: the median point is more than ``MOST_PLAUSIBLE`` metres from the camera.
    """
    if max(xyz.max(), -xyz.min()) * 3**0.5 <= MOST_PLAUSIBLE:
        return  # no point can be so far away
    points = xyz[::_EACH, ::_EACH]
    away = np.sqrt(np.square(points, dtype=np.float64).sum(axis=2))
    away = away[away > 0]
    far = float(np.median(away)) if away.size else 0.0
    if far > MOST_PLAUSIBLE:
        raise DataError(
            f"The points of {what} are {far:.4g} away from the camera, too far for metres. They "
            "seem to be in millimetres: divide by 1000, or convert the data with "
            "'chiasm data convert ... --unit 0.001'."
        )


def check_distance(xyz: FloatArray, usual: tuple[float, float] | None, what: str) -> None:
    """Refuse a part whose distance says that it is in another unit than those of the calibration.

    Args:
        xyz: ``(H, W, 3)`` metres, 0 where missing.
        usual: least and most distance of the calibration parts; None where it is not known.
        what: names the part in the message.

    Raises:
        DataError: the part is more than ``MOST_TIMES`` times farther or nearer than any of those.
    """
    if usual is None:
        return
    far = median_distance(xyz)
    nearest, farthest = usual
    if np.isnan(far) or nearest / MOST_TIMES <= far <= farthest * MOST_TIMES:
        return
    unit = " It seems to be in millimetres: divide by 1000." if far > farthest else ""
    raise DataError(
        f"{what} is {far:.4g} away by its z, where parts were {nearest:.3g} to "
        f"{farthest:.3g} metres away at training; xyz must be in metres.{unit}"
    )


def median_distance(xyz: FloatArray) -> float:
    """Median distance along the optical axis of some measured points; NaN where there is none."""
    z = np.abs(xyz[::_EACH, ::_EACH, 2])
    measured = z[z > 0]
    return float(np.median(measured)) if measured.size else float("nan")


def usual_distance(parts: Iterable[PreparedSample]) -> tuple[float, float] | None:
    """Least and most of the parts' median distances in metres; None without 3D points."""
    medians = [
        float(np.median(np.abs(part.xyz[..., 2][part.valid])))
        for part in parts
        if part.xyz is not None and part.valid.any()
    ]
    return (min(medians), max(medians)) if medians else None
