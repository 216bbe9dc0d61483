"""The pinhole camera: turn a depth image and intrinsics into an organised point map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import FloatArray


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A camera without distortion.

    Attributes:
        fx, fy: focal length in pixels.
        cx, cy: principal point in pixels; (0, 0) is the centre of the first pixel.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(np.isfinite(values)) or self.fx <= 0 or self.fy <= 0:
            raise DataError(
                f"Camera intrinsics fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy} are "
                "impossible: all must be finite and the focal lengths positive, in pixels."
            )


def back_project(depth: NDArray[np.floating], camera: Intrinsics) -> FloatArray:
    """Turn a depth image into the 3D points of its pixels.

    ``depth`` is ``(H, W)`` metres along the optical axis (not along the ray), 0 where missing.
    Returns ``(H, W, 3)`` float32 metres, x right, y down, z forward, 0 where missing.

    Example:
        >>> back_project(np.full((1, 2), 2.0), Intrinsics(fx=1, fy=1, cx=0, cy=0))[0, 1].tolist()
        [2.0, 0.0, 2.0]
    """
    height, width = depth.shape
    z = depth.astype(np.float64)
    x = (np.arange(width)[None, :] - camera.cx) / camera.fx * z
    y = (np.arange(height)[:, None] - camera.cy) / camera.fy * z
    return np.stack([x, y, z], axis=2).astype(np.float32)


CAMERA_COLUMNS = ("fx", "fy", "cx", "cy")


def read_intrinsics(path: Path | str) -> Intrinsics:
    """Read ``fx``, ``fy``, ``cx``, ``cy`` in pixels from a JSON object.

    Raises ``DataError`` for a file that is missing, not JSON, or lacks one of the four numbers.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as cause:
        raise DataError(f"{path} cannot be read as JSON: {cause}") from cause
    if not isinstance(content, dict):
        raise DataError(
            f'{path} holds no JSON object; write {{"fx": ..., "fy": ..., "cx": ..., "cy": ...}}.'
        )
    return camera_from_text(content, str(path))


def camera_of(value: Any) -> Intrinsics:
    """Return the intrinsics in a record, a mapping, a 3 x 3 matrix or a JSON file.

    Raises ``DataError`` if one of the four numbers is missing.
    """
    if isinstance(value, Intrinsics):
        return value
    if isinstance(value, str | Path):
        return read_intrinsics(value)
    if isinstance(value, Mapping):
        return camera_from_text(value, "intrinsics")
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.shape != (3, 3):
        raise DataError(
            f"intrinsics of shape {matrix.shape} were given; a mapping of fx, fy, cx and cy or a "
            "3 x 3 matrix was expected."
        )
    return Intrinsics(fx=matrix[0, 0], fy=matrix[1, 1], cx=matrix[0, 2], cy=matrix[1, 2])


def camera_from_text(values: Mapping[str, Any], source: str) -> Intrinsics:
    """Make intrinsics from four texts or numbers; ``source`` names their origin in messages."""
    try:
        return Intrinsics(**{column: float(values[column]) for column in CAMERA_COLUMNS})
    except (KeyError, TypeError, ValueError) as cause:
        listing = ", ".join(f"{column}={values.get(column, '')!s}" for column in CAMERA_COLUMNS)
        raise DataError(
            f"{source} has {listing}; depth needs the camera's fx, fy, cx and cy in pixels, as "
            "columns or in an intrinsics JSON file."
        ) from cause
    except DataError as cause:
        raise DataError(f"{source}: {cause}") from cause
