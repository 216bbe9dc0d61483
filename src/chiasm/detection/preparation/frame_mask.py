"""Where in the frame is looked: masks of pixels that a product's model keeps as data."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from chiasm.errors import DataError
from chiasm.samples import BoolArray

_ASPECT = 1.02  # ratio of aspects up to which a mask is scaled to a frame of another size
_TABLES = (".csv", ".txt", ".tsv")
_FORMS = (
    "an image, nonzero where the pixel belongs to it, or polygons in pixels: a JSON list of "
    "[x, y] corners, a list of such lists, a LabelMe file, or a text file with 'x, y' lines and a "
    "blank line between polygons"
)


@dataclass(frozen=True, slots=True)
class FrameMask:
    """Pixels of a frame, as text, so that contracts and caches hold it.

    Attributes:
        height, width: pixels of the frame that it was drawn for.
        png: one-channel PNG, base64; nonzero where a pixel belongs to it.
    """

    height: int
    width: int
    png: str

    @classmethod
    def of(cls, mask: BoolArray) -> FrameMask:
        """Return the record of a mask ``(H, W)``."""
        done, content = cv2.imencode(".png", mask.astype(np.uint8) * 255)
        assert done
        height, width = mask.shape
        return cls(height, width, base64.b64encode(content.tobytes()).decode())

    def at(self, height: int, width: int, *, name: str) -> BoolArray:
        """Return the mask ``(H, W)`` for frames of a size; do not write to it.

        Args:
            height, width: of the frame.
            name: of the frame, for the message.

        Raises:
            DataError: the frame has another aspect than the mask was drawn for.
        """
        aspect = (width / height) / (self.width / self.height)
        if not 1 / _ASPECT <= aspect <= _ASPECT:
            raise DataError(
                f"{name} is {width} x {height} pixels, and the model looks at a region that was "
                f"drawn for frames of {self.width} x {self.height}. Record frames as for the "
                "training, or train again with a region for these."
            )
        return _decoded(self.png, height, width)


@lru_cache(maxsize=16)
def _decoded(png: str, height: int, width: int) -> BoolArray:
    content = np.frombuffer(base64.b64decode(png), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError("The region of the model cannot be decoded; copy its folder again.")
    if image.shape != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    mask = np.asarray(image > 0)
    mask.flags.writeable = False
    return mask


def read_frame_mask(path: Path, *, height: int, width: int) -> FrameMask:
    """Read a mask of an image's or a polygon's file.

    Args:
        path: of the file.
        height, width: of the frames that it is for.

    Raises:
        DataError: the file cannot be read, has no pixel inside, or does not fit the frames.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; a region is {_FORMS}.")
    suffix = path.suffix.lower()
    if suffix == ".json" or suffix in _TABLES:
        mask = _filled(_polygons(path), height=height, width=width, path=path)
    else:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise DataError(f"{path} cannot be read; a region is {_FORMS}.")
        if image.ndim == 3 and image.shape[2] == 4:  # drawn on a transparent layer
            image = image[..., 3]
        mask = np.asarray(image.reshape(*image.shape[:2], -1).max(axis=2) > 0)
    if mask.all() or not mask.any():
        what = "every" if mask.all() else "no"
        raise DataError(
            f"{path} has {what} pixel inside, and so draws no region. A region is {_FORMS}."
        )
    found = FrameMask.of(mask)
    found.at(height, width, name=f"A frame of the data (for {path})")
    return found


def _filled(polygons: Sequence[np.ndarray], *, height: int, width: int, path: Path) -> BoolArray:
    canvas = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        if len(polygon) < 3:
            raise DataError(f"{path} has a polygon of {len(polygon)} corners; three are needed.")
        if (polygon.max(axis=0) > (1.05 * width, 1.05 * height)).any():
            x, y = polygon.max(axis=0)
            raise DataError(
                f"{path} has a corner at x = {x:g}, y = {y:g}, beyond the frame of {width} x "
                f"{height} pixels: draw the polygon on a frame of this data."
            )
        cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 255)
    return canvas > 0


def _polygons(path: Path) -> list[np.ndarray]:
    """Return the corners ``(N, 2)`` of each polygon, x and y in pixels."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in _TABLES:
            return [_table(block) for block in text.strip().split("\n\n") if block.strip()]
        content: Any = json.loads(text)
        if isinstance(content, dict):
            shapes = content.get("shapes") or content.get("polygons")
            content = [s["points"] if isinstance(s, dict) else s for s in shapes or ()]
        lists = content if np.ndim(content[0]) == 2 else [content]
        return [np.asarray(corners, np.float64).reshape(-1, 2) for corners in lists]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} cannot be read as polygons ({error}); a region is {_FORMS}."
        ) from error


def _table(block: str) -> np.ndarray:
    rows: list[tuple[float, float]] = []
    for line in block.splitlines():
        words = line.replace(";", " ").replace(",", " ").replace("\t", " ").split()
        try:
            x, y = (float(word) for word in words)
        except ValueError:
            if rows or not any(word.isalpha() for word in words):
                raise
            continue  # a header
        rows.append((x, y))
    return np.array(rows).reshape(-1, 2)
