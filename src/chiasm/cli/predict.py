"""``chiasm predict``: predict new parts or recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from chiasm.cli.options import Device, Lamp, OneProduct, Recorder
from chiasm.cli.tables import Json, only_json, print_json
from chiasm.errors import ConfigurationError

NOT_ALL_JUDGED = 3  # exit status


def predict(
    run: Annotated[
        Path,
        typer.Argument(help="Folder of a run, of a model, or one that 'chiasm export' wrote."),
    ],
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
    recorder: Recorder = None,
    severity: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of the levels of severity of recordings (default: severity.yaml beside "
            "them, or default levels, which are of no standard)."
        ),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures",
            help="Draw the pattern of each recording to OUT/patterns, with the phases that speak "
            "for its class.",
        ),
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Judge in this number of processes, and write Parquet files in shards."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Judge on a Ray cluster: HOST:PORT, ray://HOST:PORT, 'auto', or 'local' for one "
            "on this machine.",
        ),
    ] = None,
    heat_maps: Annotated[
        Literal["none", "defective", "all"] | None,
        typer.Option(
            help="With --workers or --ray: parts that get a heat map (default: defective)."
        ),
    ] = None,
    maps: Annotated[
        Literal["none", "npy", "tiff"],
        typer.Option(help="Write the raw scores of each part's pixels to OUT/maps, float32."),
    ] = "none",
    masks: Annotated[
        bool, typer.Option("--masks", help="Write a PNG mask of each part's regions to OUT/masks.")
    ] = False,
    coco: Annotated[
        bool, typer.Option("--coco", help="Write the regions of all parts to OUT/coco.json, too.")
    ] = False,
    product: OneProduct = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Predict new parts or recordings.

    Writes a table, and of parts a heat map of each, and the regions of those that are not good:
    place in pixels and millimetres, area and height; columns.md says what each column means. Of
    recordings it writes charge, pulse rate, severity and the pattern of each. With
    --workers or --ray any number of inputs is judged in shards, which are Parquet files; the same
    command resumes what was interrupted. --json prints a list with the verdict or diagnosis of each
    input; of shards, their counts.

    Exit status: 0 all inputs were judged; 3 some were not, and their rows say why; 2 none was, or
    the command itself is wrong.
    """
    from chiasm import api

    if workers is None and ray is None:
        _refuse("are written in shards", {"--heat-maps": heat_maps})
        with only_json(json):
            judged = api.predict(
                run,
                inputs,
                out=out,
                xyz=xyz,
                lamp=lamp,
                series=series,
                recorder=tuple(recorder or ()),
                severity=severity,
                pictures=pictures,
                keep_maps=False,
                maps=maps,
                masks=masks,
                coco=coco,
                product=product,
                device=device or "auto",
            )
        if json:
            print_json([one.to_dict() for one in judged])
        _tell_whether_all(any(one.error for one in judged))
        return
    if xyz is not None or series is not None:
        raise ConfigurationError(
            "--xyz and --series name the partner of a single file, which needs no workers; leave "
            "out --workers and --ray, or give a folder or a table."
        )
    with only_json(json):
        tally = api.predict_shards(
            run,
            inputs,
            out=out,
            workers=workers,
            ray=ray,
            heat_maps=heat_maps,
            lamp=lamp,
            recorder=tuple(recorder or ()),
            severity=severity,
            pictures=pictures,
            maps=maps,
            masks=masks,
            coco=coco,
            product=product,
            device=device or "auto",
        )
    if json:
        counts = {"inputs": tally.inputs, "failed": tally.failed, "kinds": dict(tally.kinds)}
        print_json({"out": str(out), **counts, "notes": dict(tally.notes)})
    _tell_whether_all(tally.failed > 0)


def _tell_whether_all(some_failed: bool) -> None:
    if some_failed:
        raise typer.Exit(NOT_ALL_JUDGED)


def _refuse(what: str, options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigurationError(
            f"{' and '.join(given)} belong to results that {what}; give --workers as well, or "
            "leave them out."
        )
