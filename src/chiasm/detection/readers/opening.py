"""Open a path with the reader that recognises its layout."""

from __future__ import annotations

from pathlib import Path

from chiasm.detection.readers.source import SampleSource
from chiasm.files.readers import open_with_reader


def open_source(path: Path | str, *, lamp: int | None = None, unit_m: float = 1.0) -> SampleSource:
    """Return the reader that fits a file or folder.

    ``lamp`` selects a lamp of Eyecandies, or the rows of a manifest by its lamp column. ``unit_m``
    is the length of the point maps' unit in metres. Raises ``DataError`` for an unknown layout,
    naming the known ones, and for a lamp or a unit with data that has none.
    """
    unit = None if unit_m == 1 else unit_m
    source: SampleSource = open_with_reader("detection", path, lamp=lamp, unit_m=unit)
    return source
