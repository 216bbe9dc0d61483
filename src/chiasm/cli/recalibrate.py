"""``chiasm recalibrate``: set a new threshold from operators' corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Confidence, FalseAlarmRate


def recalibrate(
    model: Annotated[Path, typer.Argument(help="Folder written by 'chiasm export'.")],
    log: Annotated[
        str,
        typer.Option(
            envvar="CHIASM_LOG",
            help="Verdict log of the service: a file, or postgresql://USER@HOST/DATABASE.",
        ),
    ] = "verdicts.sqlite",
    false_alarm_rate: FalseAlarmRate = None,
    confidence: Confidence = None,
    keep_old: Annotated[
        bool,
        typer.Option(
            "--keep-old", help="Keep the calibration scores of the export and add the new ones."
        ),
    ] = False,
    days: Annotated[
        float | None,
        typer.Option(min=0, help="Use verdicts of the last so many days only (default: all)."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name under which the model was served; needed if the log has several."),
    ] = None,
    station: Annotated[
        str | None, typer.Option(help="Station whose parts count (default: those of all).")
    ] = None,
) -> None:
    """Set the threshold from parts that operators confirmed. A running service adopts it."""
    from chiasm.errors import DataError
    from chiasm.service.log.database import Database
    from chiasm.service.log.verdict_log import VerdictLog
    from chiasm.service.recalibration import recalibrate as calibrate

    path = Database(log).path
    if path is not None and not path.is_file():
        raise DataError(f"{path} is no file; give the log that 'chiasm serve --log' writes.")
    verdicts = VerdictLog(log)
    try:
        done = calibrate(
            model,
            verdicts,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            keep_old=keep_old,
            days=days,
            name=name,
            station=station,
        )
    finally:
        verdicts.close()
    typer.echo(done)
