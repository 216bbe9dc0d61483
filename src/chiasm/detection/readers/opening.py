"""Open a path with the reader that recognises its layout."""

from __future__ import annotations

from pathlib import Path

from chiasm.detection.readers import eyecandies, mvtec3d, plain_folder
from chiasm.detection.readers.manifest import Manifest
from chiasm.detection.readers.source import SampleSource
from chiasm.errors import DataError
from chiasm.files.tables import SUFFIXES

LAYOUTS = (
    "Known layouts: a CSV or Parquet manifest with columns such as rgb, xyz, label, split; a "
    "folder in the MVTec 3D-AD layout (train/good/rgb, train/good/xyz, test/...); an Eyecandies "
    "category (train/data/000_image_0.png ...); or a folder with rgb/ and xyz/ inside."
)


def open_source(path: Path | str, *, lamp: int | None = None, unit_m: float = 1.0) -> SampleSource:
    """Return the reader that fits a file or folder.

    ``lamp`` selects a lamp of Eyecandies, or the rows of a manifest by its lamp column. ``unit_m``
    is the length of the point maps' unit in metres. Raises ``DataError`` for an unknown layout,
    naming the known ones, and for a lamp or a unit with data that has none.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path. {LAYOUTS}")
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is neither a CSV nor a Parquet file. {LAYOUTS}")
        return Manifest(path, lamp=lamp, unit_m=unit_m)
    if eyecandies.recognises(path):
        if unit_m != 1:
            raise DataError(f"{path} says the unit of its depth itself; leave the unit out.")
        return eyecandies.Eyecandies(path, lamp=lamp)
    if lamp is not None:
        raise DataError(f"{path} has images under one lamp only; leave out lamp={lamp}.")
    if mvtec3d.recognises(path):
        return mvtec3d.Mvtec3d(path, unit_m=unit_m)
    if plain_folder.recognises(path):
        return plain_folder.PlainFolder(path, unit_m=unit_m)
    raise DataError(_unknown(path))


def _unknown(path: Path) -> str:
    entries = sorted(p for p in path.iterdir() if p.name[0] != ".")
    names = ", ".join(p.name for p in entries[:5]) or "nothing"
    hint = ""
    categories = [
        p for p in entries if p.is_dir() and (mvtec3d.recognises(p) or eyecandies.recognises(p))
    ]
    if categories:
        hint = f" It holds categories: open one of them, e.g. {categories[0]}."
    return f"{path} has no known layout; it holds {names}.{hint} {LAYOUTS}"
