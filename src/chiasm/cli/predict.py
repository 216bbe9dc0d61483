"""``chiasm predict``: predict new parts or recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Device, Lamp


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of a model.")],
    inputs: Annotated[
        Path, typer.Argument(help="Folder, table or single file of parts or recordings.")
    ],
    out: Annotated[
        Path, typer.Option(help="Write the table and the heat maps to this folder.")
    ] = Path("verdicts"),
    xyz: Annotated[
        Path | None, typer.Option(help="3D file that belongs to a single RGB file.")
    ] = None,
    series: Annotated[
        Path | None, typer.Option(help="Series that belongs to a single PRPD picture.")
    ] = None,
    lamp: Lamp = None,
    device: Device = None,
) -> None:
    """Predict new parts or recordings. Writes a table, and a heat map of each part."""
    from chiasm.api import predict as run_prediction

    run_prediction(run, inputs, out=out, xyz=xyz, lamp=lamp, series=series, device=device or "auto")
