"""``chiasm train``: train a detector, after a search by default, or a classifier."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import (
    BudgetMb,
    BudgetMs,
    Config,
    Defects,
    Device,
    Lamp,
    Minutes,
    MissRate,
    Mlflow,
    Overrides,
    Ray,
    Seed,
    Strict,
    Workers,
    budgets,
    complete_model,
)
from chiasm.errors import ConfigurationError


def train(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            help="Folder or table of parts or recordings; 'chiasm data check' tests it. Of parts, "
            "a folder of several products, or the option again for each: one model then keeps them "
            "apart.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; with --from, that of the model."),
    ] = None,
    overrides: Overrides = None,
    config: Config = None,
    minutes: Minutes = None,
    seed: Seed = None,
    lamp: Lamp = None,
    device: Device = None,
    workers: Workers = None,
    ray: Ray = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a model (default: adnas_light of parts, auto of recordings); "
            "'chiasm models' lists them.",
            autocompletion=complete_model,
        ),
    ] = None,
    strict: Strict = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            help="search, concatenation, best (of these two), random, or a genotype file."
        ),
    ] = None,
    budget_ms: BudgetMs = None,
    budget_mb: BudgetMb = None,
    defects: Defects = None,
    miss_rate: MissRate = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Of recordings: the run whose classifier these adapt, with its settings; e.g. one "
            "trained on simulated recordings. Of parts: the run of several products to which the "
            "products of --data are added; the others keep theirs.",
        ),
    ] = None,
    mlflow: Mlflow = None,
) -> None:
    """Train a detector on normal parts or a classifier on recordings. Writes OUT/model.

    With --workers or --ray, a search is divided among processes, and these share every batch of a
    network that trains its features. The same command resumes what was interrupted.

    Data of several products (folders beside each other, a column product of a table, or --data
    several times) make one model with a memory of normals and a calibration for each.
    """
    started = time.monotonic()  # importing takes some of the minutes
    from chiasm.api import add_products, make_config, wing
    from chiasm.api import train as run

    if mlflow is not None:  # known to be there before hours are spent
        from chiasm.runs.mlflow_log import experiment_id, log_to_mlflow

        experiment_id(mlflow)
    if start_from is not None and wing(start_from) == "detector":
        given = budgets(budget_ms, budget_mb) or config or overrides or model or fusion
        if given or out not in (None, start_from):
            raise ConfigurationError(
                "--from takes settings and folder of the run that it names; give --data alone."
            )
        add_products(start_from, data=data, device=device)
        if mlflow is not None:
            log_to_mlflow(start_from, experiment=mlflow)
        return
    if out is None:
        raise ConfigurationError("Name the folder of the run with --out.")
    if budgets(budget_ms, budget_mb) and fusion not in (None, "search", "best"):
        raise ConfigurationError(
            f"A budget bounds a search, and --fusion {fusion} makes none. Leave out one of them."
        )
    chosen = make_config(
        file=config,
        overrides=[*(overrides or ()), *budgets(budget_ms, budget_mb)],
        data=data if len(data) > 1 else data[0],
        out=out,
        minutes=minutes,
        seed=seed,
        lamp=lamp,
        device=device,
        model=model,
        strict=strict,
        fusion=fusion,
        defects=defects,
        miss_rate=miss_rate,
        start_from=start_from,
    )
    run(chosen, workers=workers, ray=ray, started=started)
    if mlflow is not None:
        log_to_mlflow(out, experiment=mlflow)
