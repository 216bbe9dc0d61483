"""Camera intrinsics from a JSON file or from the cells of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiasm.data.pinhole import Intrinsics
from chiasm.errors import DataError

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


def camera_from_text(values: Mapping[str, Any], where: str) -> Intrinsics:
    """Make intrinsics of four values, text or numbers; ``where`` names their place in messages."""
    try:
        return Intrinsics(**{column: float(values[column]) for column in CAMERA_COLUMNS})
    except (KeyError, TypeError, ValueError) as cause:
        found = ", ".join(f"{column}={values.get(column, '')!s}" for column in CAMERA_COLUMNS)
        raise DataError(
            f"{where} has {found}; depth needs the camera's fx, fy, cx and cy in pixels, as "
            "columns or in an intrinsics JSON file."
        ) from cause
    except DataError as cause:
        raise DataError(f"{where}: {cause}") from cause
