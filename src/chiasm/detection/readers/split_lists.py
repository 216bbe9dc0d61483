"""Lists of splits as JSON: Real-IAD, Real-IAD D3 and others that name their files in this way.

The document holds ``train``, ``test`` and perhaps ``validation``: lists of objects with
``image_path``, ``mask_path``, ``xyz_path`` and ``anomaly_class`` (``OK`` or a kind of defect), and
``meta.prefix``, the folder of the category. The lists and the images may lie in folders side by
side, such as ``realiad_jsons/audiojack.json`` and ``realiad_1024/audiojack/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from chiasm.errors import DataError

_SPLITS = ("train", "validation", "test")
_PATHS = ("image_path", "mask_path", "xyz_path", "ps_path")
_FLOORS = 3  # folders above the list in which the images' folder is looked for
_BEGINNING = 65_536  # bytes that tell a list of splits from another JSON file
_PART = re.compile(r"S\d+")  # a folder with the pictures of one part


def holds_split_lists(path: Path) -> bool:
    """Return whether a file is a JSON document with lists of splits."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    return b'"image_path"' in beginning and any(
        f'"{split}"'.encode() in beginning for split in _SPLITS
    )


def read_split_lists(path: Path) -> tuple[list[str], list[dict[str, str]], Path]:
    """Return the columns, a row for each picture, and the folder that its paths start from.

    A row has the columns of a table: the paths with the prefix of the category before them,
    ``split``, ``kind``, and ``group``: the folder of a part, where one is named ``S`` and a number.

    Raises:
        DataError: the document is damaged, or its images lie in no folder, or in several.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
        prefix = str((document.get("meta") or {}).get("prefix", ""))
        rows = [
            _row(entry, split, prefix) for split in _SPLITS for entry in document.get(split) or []
        ]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as cause:
        raise DataError(
            f"{path} cannot be read as lists of splits ({cause}); 'train' and 'test' are lists of "
            'objects such as {"image_path": "OK/0.png", "anomaly_class": "OK"}.'
        ) from cause
    if not rows:
        raise DataError(f"{path} lists no picture in {', '.join(_SPLITS)}.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    full = [{name: row.get(name, "") for name in columns} for row in rows]
    return columns, full, _folder(path, rows)


def _row(entry: dict[str, Any], split: str, prefix: str) -> dict[str, str]:
    row = {name: "" if value is None else str(value) for name, value in entry.items()}
    image = row["image_path"]
    for name in _PATHS:
        if row.get(name):
            row[name] = f"{prefix}{row[name]}"
    row["split"] = split
    if "anomaly_class" in row:
        row["kind"] = row.pop("anomaly_class")
    folder = PurePosixPath(image).parent.name
    if _PART.fullmatch(folder):
        row.setdefault("group", folder)
    return row


def _folder(path: Path, rows: list[dict[str, str]]) -> Path:
    """Return the folder from which the first pictures exist: near the list, or side by side."""
    names = [row["image_path"] for row in rows[:5]]
    for floor in (path.resolve().parent, *path.resolve().parents[1 : _FLOORS + 1]):
        if _hold(floor, names):
            return floor
        found = [folder for folder in _folders(floor) if _hold(folder, names)]
        if len(found) > 1:
            raise DataError(
                f"The pictures of {path} lie in {' and in '.join(map(str, found))}. Copy the list "
                "into the folder that is to be read."
            )
        if found:
            return found[0]
    raise DataError(
        f"{path} names {names[0]}, which lies neither beside the list nor in a folder beside it. "
        "Copy the list into the folder that its paths start from."
    )


def _folders(floor: Path) -> Iterator[Path]:
    return (folder for folder in sorted(floor.iterdir()) if folder.is_dir())


def _hold(folder: Path, names: list[str]) -> bool:
    return any((folder / name).is_file() for name in names)
