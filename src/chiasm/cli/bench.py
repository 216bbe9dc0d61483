"""``chiasm bench``: tables and figures of the papers, and rivals on one's own data."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chiasm.cli.options import Data


def bench(
    table: Annotated[
        str,
        typer.Argument(
            help="Of parts: rivals, few_shot, table1 to table7, supp1 to supp6, fig4a, fig4b or "
            "fig4c. Of recordings: classifiers, classifier_robustness, mad_table2 to mad_table4, "
            "mad_fig3 to mad_fig6."
        ),
    ],
    data: Data,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value of every run.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the table and its runs.")] = Path("bench"),
    categories: Annotated[str, typer.Option(help="Which, with commas between.")] = "",
    methods: Annotated[str, typer.Option(help="Which, with semicolons between.")] = "",
    seeds: Annotated[str, typer.Option(help="Of runs, with commas between.")] = "",
    shots: Annotated[str, typer.Option(help="Numbers of parts, with commas.")] = "5,10,50",
    minutes: Annotated[float | None, typer.Option(help="Budget of the whole table.")] = None,
    minutes_each: Annotated[float | None, typer.Option(help="Budget of each run.")] = None,
    bank_mb: Annotated[float | None, typer.Option(help="Megabytes of memory banks.")] = None,
    splits: Annotated[
        str, typer.Option(help="Of recordings: random, session, or groups left out in turn.")
    ] = "session",
    left_out: Annotated[
        str, typer.Option(help="Of groups that are left out in turn, which; all unless told.")
    ] = "",
    corrupted: Annotated[
        int, typer.Option(min=1, help="Recordings that are judged with each corruption.")
    ] = 200,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; local begins one.")
    ] = None,
) -> None:
    """Fill a table; started again it runs only what is missing."""
    from chiasm.benchmarks.benchmark import run_table
    from chiasm.benchmarks.detection import DetectionSuite, categories_under, check_methods
    from chiasm.benchmarks.detection_tables import describe
    from chiasm.benchmarks.diagnosis import DiagnosisSuite
    from chiasm.benchmarks.diagnosis_tables import RECORDING_TABLES, describe_recordings
    from chiasm.settings import read_override

    chosen = tuple(part.strip() for part in methods.split(";") if part.strip()) or None
    settings = dict(read_override(override) for override in overrides or [])
    how: dict[str, Any] = {
        "out": out,
        "command": shlex.join(["chiasm", *sys.argv[1:]]),
        "jobs": jobs,
        "ray": ray,
        "minutes": minutes,
        "said": typer.echo,
    }
    if table in RECORDING_TABLES:
        if "cache" in settings:
            # Where the store lies is no part of what names a run; its processes are told so.
            os.environ["CHIASM_CACHE"] = str(settings.pop("cache"))
        recordings = DiagnosisSuite(
            data=data,
            methods=chosen,
            splits=_parts(splits),
            left_out=_parts(left_out),
            seeds=_numbers(seeds or "42", "--seeds"),
            settings=settings,
            minutes=minutes_each,
            corrupted=corrupted,
        )
        run_table(describe_recordings(table, recordings), **how)
        return
    check_methods(chosen)
    drawn = table in ("few_shot", "table6", "table7", "supp3", "supp4", "supp5", "supp6")
    suite = DetectionSuite(
        categories=categories_under(data, tuple(c for c in categories.split(",") if c)),
        methods=chosen,
        seeds=_numbers(seeds or ("0,1,2" if drawn else "0"), "--seeds"),
        shots=_numbers(shots, "--shots"),
        settings=settings,
        minutes=minutes_each,
        bank_mb=bank_mb,
    )
    run_table(describe(table, suite), **how, in_turn=table == "table5")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    from chiasm.errors import ConfigurationError

    try:
        return tuple(int(part) for part in _parts(text))
    except ValueError as error:
        raise ConfigurationError(
            f"{option} takes whole numbers with commas between, as in 0,1,2; not {text!r}."
        ) from error
