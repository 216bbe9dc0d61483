"""A folder that appears whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chiasm.errors import ArtifactError
from chiasm.runtime.deployment import DEPLOYMENT


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of ``out`` when nothing was raised.

    An exported model that lies there gives way. Raises ``ArtifactError`` for anything else.
    """
    if out.exists() and not (out / DEPLOYMENT).is_file() and any(out.iterdir()):
        raise ArtifactError(
            f"{out} holds something that is not an exported model; choose another folder."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        folder = Path(place) / "model"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(Path(place) / "old")
        folder.rename(out)
