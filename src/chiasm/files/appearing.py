"""Files that appear whole: written under a hidden name, on the disk, and then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = ".half-"


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give the name to write under; the file gets its own name when all of it is on the disk.

    The suffix is the same, because writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{_MARK}{os.getpid()}-{path.name}")
    try:
        yield half
        with half.open("rb") as stream:
            os.fsync(stream.fileno())  # a name must not survive a power cut without its content
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def remove_halves(folder: Path) -> None:
    """Remove what writers that were killed left anywhere below a folder."""
    for half in folder.rglob(f"{_MARK}*"):
        half.unlink(missing_ok=True)
