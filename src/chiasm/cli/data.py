"""``chiasm data``: make, check and convert data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Lamp

app = typer.Typer(no_args_is_help=True, help="Make, check and convert data.")


@app.command()
def make(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write; each product gets a folder in it.")
    ],
    products: Annotated[
        str, typer.Option(help="Products, separated by commas; all by default.")
    ] = "",
    train: Annotated[int, typer.Option(help="Normal parts for training, per product.")] = 60,
    validation: Annotated[
        int, typer.Option(help="Normal parts for calibration, per product.")
    ] = 20,
    test_good: Annotated[int, typer.Option(help="Good test parts, per product.")] = 20,
    test_per_defect: Annotated[
        int, typer.Option(help="Defective test parts per kind of defect.")
    ] = 5,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    recordings: Annotated[
        int, typer.Option(help="Make this many recordings of partial discharge instead of parts.")
    ] = 0,
    sessions: Annotated[
        int, typer.Option(help="Number of sessions of the recordings; each has one class.")
    ] = 100,
    tier: Annotated[str, typer.Option(help="Difficulty of the recordings: easy or hard.")] = "easy",
    pairing: Annotated[
        str,
        typer.Option(
            help="How image and series of a recording fit: exact, jittered or mismatched."
        ),
    ] = "exact",
) -> None:
    """Render RGB + 3D parts as MVTec 3D-AD files, or simulate recordings as AI-Hub files."""
    if recordings:
        from chiasm.diagnosis.simulator.simulator import make_recordings

        make_recordings(
            folder,
            count=recordings,
            sessions=sessions,
            tier=tier,  # type: ignore[arg-type]  # make_recordings checks it
            pairing=pairing,  # type: ignore[arg-type]  # as above
            seed=seed,
        )
        typer.echo(str(folder))
        return
    from chiasm.detection.scenes.maker import PRODUCTS, make_scenes

    for path in make_scenes(
        folder,
        products=tuple(products.split(",")) if products else PRODUCTS,
        train=train,
        validation=validation,
        test_good=test_good,
        test_per_defect=test_per_defect,
        size=size,
        seed=seed,
    ):
        typer.echo(str(path))


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder or manifest.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lamp: Lamp = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End with status 1 if files are damaged or in two splits."),
    ] = False,
) -> None:
    """Count the samples, and find broken pairs, leaks between splits and shortcuts."""
    from chiasm.detection.readers import audit as parts
    from chiasm.detection.readers.opening import open_source
    from chiasm.diagnosis.readers import audit as recordings
    from chiasm.diagnosis.readers import opening

    report: parts.AuditReport | recordings.AuditReport
    if opening.is_diagnosis_data(path):
        report = recordings.audit(opening.open_source(path))
    else:
        report = parts.audit(open_source(path, lamp=lamp))
    typer.echo(report.to_json() if json else report.to_text())
    if strict and not report.sound:
        raise typer.Exit(1)


@app.command()
def convert(
    origin: Annotated[Path, typer.Argument(help="Folder with rgb/ and depth/, ply/ or pcd/.")],
    destination: Annotated[Path, typer.Argument(help="Folder to write.")],
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    kind: Annotated[str | None, typer.Option(help="good, or the kind of defect.")] = None,
    unit: Annotated[
        float | None,
        typer.Option(help="Metres of one unit of the 3D data; 1 by default.", min=0),
    ] = None,
    intrinsics: Annotated[
        Path | None, typer.Option(help="JSON file with fx, fy, cx, cy in pixels.")
    ] = None,
    lamp: Lamp = None,
) -> None:
    """Convert depth images, PLY, PCD or other units into the MVTec 3D-AD layout."""
    from chiasm.detection.readers.convert import convert as convert_files

    conversion = convert_files(
        origin,
        destination,
        split=split,
        kind=kind,
        unit_m=unit,
        intrinsics=intrinsics,
        lamp=lamp,
    )
    typer.echo(f"{conversion.written} samples were written to {conversion.root}.")
    for problem in conversion.problems:
        typer.echo(f"left out: {problem}", err=True)
