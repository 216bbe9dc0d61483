"""Open a path with the reader that recognises its layout."""

from __future__ import annotations

import inspect
from pathlib import Path

from chiasm.detection.readers.source import Lamp, SampleSource
from chiasm.files.readers import find_reader, open_with_reader


def open_source(path: Path | str, *, lamp: Lamp | None = None, unit_m: float = 1.0) -> SampleSource:
    """Return the reader that fits a file or folder.

    ``lamp`` selects a lamp of Eyecandies, or the rows of a manifest by its lamp column; ``"all"``
    takes what there is under any. ``unit_m`` is the length of the point maps' unit in metres.
    Raises ``DataError`` for an unknown layout, naming the known ones, and for a lamp or a unit with
    data that has none.
    """
    unit = None if unit_m == 1 else unit_m
    if lamp == "all":
        layout = find_reader("detection", Path(path))
        if layout is not None and "lamp" not in inspect.signature(layout).parameters:
            lamp = None  # there is one, so that these are all
    source: SampleSource = open_with_reader("detection", path, lamp=lamp, unit_m=unit)
    return source
