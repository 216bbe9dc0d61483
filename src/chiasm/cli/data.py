"""``chiasm data``: make, check and convert data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Lamp

app = typer.Typer(no_args_is_help=True, help="Make, check and convert data.")


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Where to write; one folder a product.")],
    products: Annotated[
        str, typer.Option(help="Which, with commas between; all unless told.")
    ] = "",
    train: Annotated[int, typer.Option(help="Normal parts to learn from, per product.")] = 60,
    validation: Annotated[int, typer.Option(help="Normal parts to calibrate with.")] = 20,
    test_good: Annotated[int, typer.Option(help="Good parts in the test split.")] = 20,
    test_per_defect: Annotated[int, typer.Option(help="Defective parts per kind.")] = 5,
    size: Annotated[int, typer.Option(help="Pixels of a side.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    recordings: Annotated[
        int, typer.Option(help="Make so many recordings of partial discharge instead of parts.")
    ] = 0,
    sessions: Annotated[int, typer.Option(help="Of recordings; one class each.")] = 100,
    tier: Annotated[str, typer.Option(help="Of recordings: easy or hard.")] = "easy",
    pairing: Annotated[
        str, typer.Option(help="Of image and series: exact, jittered or mismatched.")
    ] = "exact",
) -> None:
    """Make RGB + 3D parts as MVTec 3D-AD files, or recordings of discharges as AI-Hub files."""
    if recordings:
        from chiasm.diagnosis.simulator.simulator import make_recordings

        make_recordings(
            folder,
            count=recordings,
            sessions=sessions,
            tier=tier,  # type: ignore[arg-type]  # checked by what is called
            pairing=pairing,  # type: ignore[arg-type]
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
        typer.Option("--strict", help="End with status 1 where files are bad or leak."),
    ] = False,
) -> None:
    """Count, and look for broken pairs, leaks between splits and shortcuts."""
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
        typer.Option(help="Metres of one unit of the 3D data; metres unless told.", min=0),
    ] = None,
    intrinsics: Annotated[
        Path | None, typer.Option(help="JSON file with fx, fy, cx, cy in pixels.")
    ] = None,
    lamp: Lamp = None,
) -> None:
    """Turn depth images with intrinsics, PLY, PCD or other units into the MVTec 3D-AD layout."""
    from chiasm.detection.readers.convert import convert as run

    done = run(
        origin,
        destination,
        split=split,
        kind=kind,
        unit_m=unit,
        intrinsics=intrinsics,
        lamp=lamp,
    )
    typer.echo(f"{done.written} samples were written to {done.root}.")
    for problem in done.problems:
        typer.echo(f"left out: {problem}", err=True)
