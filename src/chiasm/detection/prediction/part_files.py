"""Files of a verdict: raw map, mask of its regions, and the regions of all parts as COCO."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.prediction.regions import region_numbers
from chiasm.errors import ArtifactError
from chiasm.samples import FloatArray, Verdict

Maps = Literal["none", "npy", "tiff"]
COCO = "coco.json"
MAPS, MASKS = "maps", "masks"
_MOST_LETTERS = 80  # of a file's stem; names have at most 255 bytes


@dataclass(frozen=True, slots=True)
class PartFiles:
    """Which files are written beside the table, and where.

    Attributes:
        folder: of the results.
        maps: format of the raw maps.
        masks: whether each part with a map gets a mask of its regions.
        coco: whether the regions are written as COCO, too.
    """

    folder: Path
    maps: Maps = "none"
    masks: bool = False
    coco: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What decides the files, by name."""
        return {"maps": self.maps, "masks": self.masks, "coco": self.coco}

    @property
    def columns(self) -> dict[str, str]:
        """Columns that name the files of a part, with their type of Arrow."""
        named = {"map": self.maps != "none", "mask": self.masks}
        return {name: "string" for name, wanted in named.items() if wanted}

    def write_row(self, verdict: Verdict, row: Mapping[str, Any], *, name: str) -> dict[str, Any]:
        """Write the files of one part; return its row with what they add.

        Args:
            verdict: on the part.
            row: of the table.
            name: of its files, without suffix; see ``file_stem``.

        Raises ``OSError`` where a file cannot be written.
        """
        added: dict[str, Any] = dict.fromkeys(self.columns)
        if verdict.anomaly_map is None or not any((*self.columns, self.coco)):
            return {**row, **added}
        if self.maps != "none":
            added["map"] = f"{MAPS}/{name}.{self.maps}"
            _put(self.folder / added["map"], map_bytes(verdict.anomaly_map.scores, self.maps))
        if not (self.masks or self.coco):
            return {**row, **added}
        numbers = region_numbers(verdict)
        if self.masks:
            added["mask"] = f"{MASKS}/{name}.png"
            _put(self.folder / added["mask"], png_bytes((numbers > 0) * np.uint8(255)))
        if self.coco:
            added["regions"] = [
                {**region, "runs": run_lengths(numbers == number)}
                for number, region in enumerate(row["regions"], start=1)
            ]
        return {**row, **added}


def file_stem(source: str, files: Iterable[Path | str] = ()) -> str:
    """Return a name for the files of a part: its own, and a hash that parts of one name differ by.

    Args:
        source: of the part.
        files: that it was read from; parts of one source may differ in the others.

    Example:
        >>> file_stem("cut/rgb/000.png"), file_stem("good/rgb/000.png")
        ('000-9ad63ec9', '000-899dd57e')
    """
    stem = re.sub(r"[^\w.+-]", "_", Path(source).stem)[:_MOST_LETTERS]
    others = sorted({str(file) for file in files} - {source})
    whole = "\n".join([source, *others]).encode("utf-8", "surrogateescape")
    return f"{stem}-{hashlib.sha256(whole).hexdigest()[:8]}"


def map_bytes(scores: FloatArray, form: Maps) -> bytes:
    """Return scores ``(H, W)`` float32 as the content of an npy file or of a float TIFF."""
    stream = io.BytesIO()
    if form == "npy":
        np.save(stream, scores)
    else:
        import tifffile

        tifffile.imwrite(stream, scores, compression="zlib", photometric="minisblack")
    return stream.getvalue()


def png_bytes(picture: NDArray[Any]) -> bytes:
    """Return a picture as the content of a PNG file; ``ArtifactError`` where OpenCV cannot."""
    done, content = cv2.imencode(".png", picture)
    if not done:
        raise ArtifactError("OpenCV could not encode a picture as PNG.")
    return content.tobytes()


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Return a mask's run-length code as COCO has it: column by column, from outside on.

    Example:
        >>> run_lengths(np.array([[False, True], [True, True]]))
        {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def write_coco(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write the regions of all parts as a COCO file of instances, one part after the other.

    Masks are uncompressed run-length codes, ``score`` is a region's peak; ``area`` is in pixels, as
    COCO has it, and ``area_mm2`` and its like stand beside it.

    Args:
        rows: of the table, with the run-length codes of their regions.
        path: of the file.
    """
    number = 0
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w") as images, io.StringIO() as annotations:
            images.write('{"info": {"description": "regions that chiasm predicted"},\n"images": [')
            judged = (row for row in rows if row["frame_height"] is not None)
            for image, row in enumerate(judged, start=1):
                facts = {
                    "id": image,
                    "file_name": row["source"],
                    "height": row["frame_height"],
                    "width": row["frame_width"],
                }
                images.write(f"{',' if image > 1 else ''}\n{json.dumps(facts)}")
                for region in row["regions"]:
                    number += 1
                    text = json.dumps(_annotation(number, image, region))
                    annotations.write(f"{',' if number > 1 else ''}\n{text}")
            images.write('],\n"categories": [{"id": 1, "name": "defect"}],\n"annotations": [')
            images.write(annotations.getvalue())
            images.write("]}\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _annotation(number: int, image: int, region: Mapping[str, Any]) -> dict[str, Any]:
    millimetres = {name: region[name] for name in region if name.endswith(("_mm", "_mm2"))}
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [region[name] for name in ("left", "top", "width", "height")],
        "area": region["pixels"],
        "segmentation": region["runs"],
        "iscrowd": 0,
        "score": region["peak"],
        **millimetres,
    }


def _put(path: Path, content: bytes) -> None:
    """Write a file in one step, so that none is cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
