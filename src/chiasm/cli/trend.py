"""``chiasm trend``: the trend of assets over their recordings, with alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Device, Recorder

ALARM = 4  # exit status


def trend(
    inputs: Annotated[
        Path, typer.Argument(help="Folder or table of recordings, of one asset or of many.")
    ],
    model: Annotated[
        Path,
        typer.Option("--model", help="Folder of a run, or one that 'chiasm export' wrote."),
    ],
    asset: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the table or field of the instrument that names the asset, or 'folder' "
            "(default: a column called asset or equipment, else the folder).",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column or field of the time; or 'name', a date in the file's name; 'file', the "
            "time of its last change; 'order', none (default: the first of these that most "
            "recordings have, but never that of the file).",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Write trend.html, trend.json and trend.csv to this folder.")
    ] = Path("trend"),
    per_day: Annotated[
        bool,
        typer.Option("--per-day", help="Take one value a day, where recordings come in bursts."),
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="Earlier alarms are listed, but do not count for the exit status."
        ),
    ] = None,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of assets without change that may ever raise an alarm.")
    ] = 0.05,
    persistence: Annotated[
        int,
        typer.Option(help="Recordings in a row, at least, of another class or severity."),
    ] = 3,
    severity: Annotated[
        Path | None,
        typer.Option(help="YAML file of severity levels; default: severity.yaml beside the data."),
    ] = None,
    recorder: Recorder = None,
    device: Device = None,
) -> None:
    """Judge the recordings of assets in the order of time, and say what changed.

    An alarm is raised where charge or pulse rate grow, where the class changes for good or is
    unknown from now on, and where the severity rises. trend.html shows every asset over time.

    Exit status: 0 no asset alarms; 4 at least one does; 2 the command itself is wrong, or no
    recording could be judged.
    """
    from chiasm import api

    report = api.trend(
        model,
        inputs,
        out=out,
        asset=asset,
        time=time,
        per_day=per_day,
        since=since,
        false_alarm_rate=false_alarm_rate,
        persistence=persistence,
        recorder=tuple(recorder or ()),
        severity=severity,
        device=device or "auto",
    )
    if report.alarming:
        raise typer.Exit(ALARM)
