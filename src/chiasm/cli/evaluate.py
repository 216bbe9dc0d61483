"""``chiasm evaluate``: figures, pictures and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Data, Lamp


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's or a model's folder.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    lamp: Lamp = None,
    splits: Annotated[
        str,
        typer.Option(
            help="Of a classifier: also train on these splits and show the gap, e.g. "
            "'random,equipment' or 'equipment=GIS-25.8kV'."
        ),
    ] = "",
    left_out: Annotated[
        str,
        typer.Option(help="Of a classifier: also train without each of these classes."),
    ] = "",
) -> None:
    """Judge the test split; writes metrics.json and report.html."""
    from chiasm.api import evaluate as run_evaluation

    run_evaluation(
        run, data=data, out=out, lamp=lamp, splits=_parts(splits), left_out=_parts(left_out)
    )


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part]
