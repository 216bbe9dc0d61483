"""``chiasm recalibrate``: a new threshold from what operators said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def recalibrate(
    model: Annotated[Path, typer.Argument(help="Folder that 'chiasm export' wrote.")],
    log: Annotated[Path, typer.Option(help="Log of a service.")] = Path("verdicts.sqlite"),
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="To be promised; the model's own where not given.")
    ] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the scores of the export beside the new.")
    ] = False,
    days: Annotated[
        float | None, typer.Option(min=0, help="How far back verdicts count; all where not given.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Under which it was served; needed where there are several.")
    ] = None,
) -> None:
    """Set the threshold by parts that operators confirmed; a running service takes it over."""
    from chiasm.errors import DataError
    from chiasm.service.recalibration import recalibrate as calibrate
    from chiasm.service.verdict_log import VerdictLog

    if not log.is_file():
        raise DataError(f"{log} is no file; name the log that 'chiasm serve --log' writes.")
    verdicts = VerdictLog(log)
    try:
        done = calibrate(
            model,
            verdicts,
            false_alarm_rate=false_alarm_rate,
            keep_old=keep_old,
            days=days,
            name=name,
        )
    finally:
        verdicts.close()
    typer.echo(done)
