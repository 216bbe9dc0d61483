"""``chiasm demo``: the main job on built-in data, for someone who has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, model and report.")] = Path(
        "chiasm-demo"
    ),
    product: Annotated[str, typer.Option(help="One of the built-in products.")] = "flange",
) -> None:
    """Make parts, search a fusion, train, evaluate: minutes on two processor cores."""
    from chiasm.workflows.demo import demo as run

    run(out, product=product)
