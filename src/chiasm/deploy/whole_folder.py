"""Write a folder in one step: completely or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chiasm.errors import ArtifactError
from chiasm.runtime.deployment import DEPLOYMENT


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write to; it replaces ``out`` if the block ends without an error.

    Raises ``ArtifactError`` if ``out`` holds anything but an exported model.
    """
    if out.exists() and not (out / DEPLOYMENT).is_file() and any(out.iterdir()):
        raise ArtifactError(
            f"{out} is not empty and holds no exported model; choose another folder."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(Path(parent) / "old")
        folder.rename(out)
