"""Write a folder in one step: completely or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chiasm.detection.products.models import PRODUCTS
from chiasm.errors import ArtifactError
from chiasm.runtime.deployment import DEPLOYMENT


def check_free(out: Path, *, force: bool) -> None:
    """Refuse a place for an exported model that is taken.

    Args:
        out: the place.
        force: whether an exported model there may be replaced.

    Raises:
        ArtifactError: there is a file, a folder of something else, or a model that must not be
            replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise ArtifactError(f"{out} is a file; name a folder for the exported model.")
    if not (out / DEPLOYMENT).is_file() and not (out / PRODUCTS).is_file():
        raise ArtifactError(
            f"{out} is not empty and holds no exported model; choose another folder.",
            see="place-taken",
        )
    if not force:
        raise ArtifactError(
            f"{out} holds an exported model already, with its threshold and what was recalibrated "
            "since. Choose another folder, or replace it: --force (in Python force=True).",
            see="place-taken",
        )


@contextmanager
def whole_folder(out: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a folder to write to; it becomes ``out`` if the block ends without an error.

    Args:
        out: the place.
        force: whether an exported model there is replaced.

    Raises:
        ArtifactError: see ``check_free``.
    """
    check_free(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(Path(parent) / "old")
        folder.rename(out)
