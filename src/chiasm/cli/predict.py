"""``chiasm predict``: verdicts on new parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Lamp


def predict(
    run: Annotated[Path, typer.Argument(help="A run's or a model's folder.")],
    inputs: Annotated[Path, typer.Argument(help="Folder, manifest, or one file.")],
    out: Annotated[Path, typer.Option(help="Folder for verdicts and heat maps.")] = Path(
        "verdicts"
    ),
    xyz: Annotated[Path | None, typer.Option(help="3D file of a single RGB file.")] = None,
    series: Annotated[
        Path | None, typer.Option(help="Series of a single picture of discharges.")
    ] = None,
    lamp: Lamp = None,
) -> None:
    """Judge parts or recordings; writes a table of verdicts, and a heat map of each part."""
    from chiasm.api import predict as run_prediction

    run_prediction(run, inputs, out=out, xyz=xyz, lamp=lamp, series=series)
