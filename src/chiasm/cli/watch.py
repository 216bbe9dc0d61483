"""``chiasm watch``: judge what appears in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from chiasm.cli.options import Device, OneProduct, Recorder
from chiasm.cli.predict import NOT_ALL_JUDGED


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder in which parts or recordings appear.")],
    model: Annotated[
        Path, typer.Option(help="Folder of a run, of a model, or one of 'chiasm export'.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the table and for judged files. Default: FOLDER.verdicts beside it."
        ),
    ] = None,
    then: Annotated[
        Literal["move", "mark", "leave"],
        typer.Option(
            help="What becomes of judged files: moved to OUT/good, OUT/defective ..., marked by a "
            ".verdict.json beside them, or left."
        ),
    ] = "move",
    existing: Annotated[
        Literal["judge", "skip"], typer.Option(help="What to do with files that are there already.")
    ] = "judge",
    outlets: Annotated[
        Path | None,
        typer.Option(help="YAML file of the systems that get the verdicts: MQTT, Modbus, ..."),
    ] = None,
    station: Annotated[str, typer.Option(help="Name of the place, for the verdicts.")] = "",
    settle: Annotated[
        float, typer.Option(min=0.0, help="Seconds for which a file must not change.")
    ] = 1.0,
    patience: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for the other files of a part.")
    ] = 30.0,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Files that are not of a part, e.g. '*_preview.png'; repeatable.",
        ),
    ] = None,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between looks.")] = 0.5,
    once: Annotated[
        bool, typer.Option("--once", help="End when nothing in the folder waits.")
    ] = False,
    heat_maps: Annotated[
        bool, typer.Option("--heat-maps", help="Write a heat map of each defective part to OUT.")
    ] = False,
    camera: Annotated[
        Path | None, typer.Option(help="JSON file of the intrinsics, where depth images arrive.")
    ] = None,
    depth_unit: Annotated[
        float | None, typer.Option(help="Metres in one count of a depth image, e.g. 0.001.")
    ] = None,
    frequency: Annotated[
        float | None, typer.Option(help="Of recordings: mains frequency in Hz (60 by default).")
    ] = None,
    samples_per_cycle: Annotated[
        int | None, typer.Option(help="Of recordings: values in a mains cycle (128 by default).")
    ] = None,
    recorder: Recorder = None,
    product: OneProduct = None,
    device: Device = None,
) -> None:
    """Judge parts as they appear in a folder, and report to the line.

    Every verdict is a line of OUT/verdicts.csv before its files are moved, so that after a kill or
    a power cut the same command goes on where it was. --outlets sends the verdicts to MQTT,
    webhooks, Modbus/TCP and OPC UA as well. Ctrl-C and SIGTERM end after the part in work.
    With --once the exit status is 3 where some parts could not be judged.
    """
    from functools import partial

    from chiasm import api
    from chiasm.detection.products.models import folder_of_product
    from chiasm.line.record import ERROR
    from chiasm.line.session import WatchSettings, watch_until_stopped

    settings = WatchSettings(
        folder=folder,
        out=out or folder.resolve().with_name(f"{folder.resolve().name}.verdicts"),
        model=folder_of_product(model, product),
        after=then,
        skips_existing=existing == "skip",
        outlets=outlets,
        station=station,
        settle_s=settle,
        patience_s=patience,
        every_s=every,
        once=once,
        heat_maps=heat_maps,
        ignore=tuple(ignore or ()),
        options={
            "intrinsics": camera,
            "depth_unit": depth_unit,
            "frequency": frequency,
            "samples_per_cycle": samples_per_cycle,
            "recorder": tuple(recorder) if recorder else None,
        },
    )
    done = watch_until_stopped(settings, partial(api.load, device=device or "auto"))
    if once and done.counts[ERROR]:
        raise typer.Exit(NOT_ALL_JUDGED)
