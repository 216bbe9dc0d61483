"""``chiasm evaluate``: figures, pictures and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Data, Light


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's or a model's folder.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    light: Light = None,
) -> None:
    """Judge the test split; writes metrics.json and report.html."""
    from chiasm.workflows.verbs import evaluate as judge

    judge(run, data=data, out=out, light=light)
