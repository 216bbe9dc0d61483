"""``chiasm bench``: tables and figures of the papers, and all methods on the user's data."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chiasm.cli.options import Data, Device


def bench(
    table: Annotated[
        str,
        typer.Argument(
            help="Parts: rivals, few_shot, fusions, frozen_features, table1 to table7, supp1 to "
            "supp6, fig1, fig4a to fig4c, fig5. Recordings: classifiers, classifier_robustness, "
            "mad_table2 to mad_table4, mad_fig3 to mad_fig6."
        ),
    ],
    data: Data,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of every run, as key=value.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the table and its runs.")] = Path("bench"),
    categories: Annotated[
        str, typer.Option(help="Categories, separated by commas; all by default.")
    ] = "",
    methods: Annotated[
        str,
        typer.Option(
            help="Models or published methods, separated by semicolons; all small ones by default."
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds of the runs, separated by commas.")] = "",
    shots: Annotated[
        str, typer.Option(help="Numbers of training parts, separated by commas.")
    ] = "5,10,50",
    minutes: Annotated[float | None, typer.Option(help="Minutes for the whole table.")] = None,
    minutes_each: Annotated[float | None, typer.Option(help="Minutes for each run.")] = None,
    bank_mb: Annotated[float | None, typer.Option(help="Megabytes of each memory bank.")] = None,
    splits: Annotated[
        str,
        typer.Option(
            help="Splits of recordings: random, session, or a kind of group, left out in turn."
        ),
    ] = "session",
    left_out: Annotated[
        str, typer.Option(help="Groups to leave out in turn, separated by commas; all by default.")
    ] = "",
    corrupted: Annotated[
        int, typer.Option(min=1, help="Number of recordings evaluated with each corruption.")
    ] = 200,
    device: Device = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of runs at a time.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; local starts one.")
    ] = None,
) -> None:
    """Fill a table of a benchmark; a restarted command runs only the missing runs."""
    from chiasm.benchmarks.benchmark import run_table
    from chiasm.benchmarks.detection import DetectionSuite, categories_under, check_methods
    from chiasm.benchmarks.detection_tables import describe
    from chiasm.benchmarks.diagnosis import DiagnosisSuite
    from chiasm.benchmarks.diagnosis_tables import RECORDING_TABLES, describe_recordings
    from chiasm.runs.console import say
    from chiasm.settings import read_override

    selected = tuple(part.strip() for part in methods.split(";") if part.strip()) or None
    settings = dict(read_override(override) for override in overrides or [])
    if device is not None:
        settings["device"] = device
    options: dict[str, Any] = {
        "out": out,
        "command": shlex.join(["chiasm", *sys.argv[1:]]),
        "jobs": jobs,
        "ray": ray,
        "minutes": minutes,
        "report_progress": say,
    }
    if table in RECORDING_TABLES:
        if "cache" in settings:
            # The store's place must not change a trial's key; its subprocesses read the variable.
            os.environ["CHIASM_CACHE"] = str(settings.pop("cache"))
        recordings = DiagnosisSuite(
            data=data,
            methods=selected,
            splits=_parts(splits),
            left_out=_parts(left_out),
            seeds=_numbers(seeds or "42", "--seeds"),
            settings=settings,
            minutes=minutes_each,
            corrupted=corrupted,
        )
        run_table(describe_recordings(table, recordings), **options)
        return
    check_methods(selected)
    draws_parts = table in ("few_shot", "table6", "table7", "supp3", "supp4", "supp5", "supp6")
    suite = DetectionSuite(
        categories=categories_under(data, tuple(c for c in categories.split(",") if c)),
        methods=selected,
        seeds=_numbers(seeds or ("0,1,2" if draws_parts else "0"), "--seeds"),
        shots=_numbers(shots, "--shots"),
        settings=settings,
        minutes=minutes_each,
        bank_mb=bank_mb,
    )
    run_table(describe(table, suite), **options, in_turn=table == "table5")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    from chiasm.errors import ConfigurationError

    try:
        return tuple(int(part) for part in _parts(text))
    except ValueError as error:
        raise ConfigurationError(
            f"{option} takes whole numbers separated by commas, as in 0,1,2; not {text!r}."
        ) from error
