"""``chiasm threshold``: show or change what a model promises of false alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Confidence, Defects, FalseAlarmRate, MissRate, OneProduct


def threshold(
    folder: Annotated[
        Path, typer.Argument(help="Folder written by 'chiasm export', or of a run or a model.")
    ],
    false_alarm_rate: FalseAlarmRate = None,
    confidence: Confidence = None,
    on_average: Annotated[
        bool,
        typer.Option(
            "--on-average",
            help="Promise the rate on average over calibrations, without confidence.",
        ),
    ] = False,
    defects: Defects = None,
    miss_rate: MissRate = None,
    product: OneProduct = None,
) -> None:
    """Change the alarm threshold of a model, or show it. A running service adopts it.

    Good parts promise a false-alarm rate. Known defects (--defects) choose a threshold instead: the
    one of the best F1, or one that misses at most a share of such defects (--miss-rate).
    A model of several products has a threshold for each: --product changes that of one alone.
    """
    from chiasm.deploy.threshold import set_thresholds

    changes = set_thresholds(
        folder,
        product=product,
        false_alarm_rate=false_alarm_rate,
        confidence=confidence,
        on_average=on_average,
        defects=defects,
        miss_rate=miss_rate,
    )
    for name, change in changes.items():
        typer.echo(f"{name}:\n{change}" if name else change)
