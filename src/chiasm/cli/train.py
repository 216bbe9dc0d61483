"""``chiasm train``: train a detector, after a search by default, or a classifier."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from chiasm.cli.options import (
    Config,
    Data,
    Defects,
    Device,
    Lamp,
    Minutes,
    MissRate,
    Out,
    Overrides,
    Ray,
    Seed,
    Strict,
    Workers,
)


def train(
    data: Data,
    out: Out,
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
        typer.Option(help="Name of a model (default: adnas_light); 'chiasm models' lists them."),
    ] = None,
    strict: Strict = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            help="search, concatenation, best (of these two), random, or a genotype file."
        ),
    ] = None,
    defects: Defects = None,
    miss_rate: MissRate = None,
) -> None:
    """Train a detector on normal parts or a classifier on recordings. Writes OUT/model.

    With --workers or --ray, a search is divided among processes, and these share every batch of a
    network that trains its features. The same command resumes what was interrupted.
    """
    started = time.monotonic()  # importing takes some of the minutes
    from chiasm.api import make_config
    from chiasm.api import train as run

    chosen = make_config(
        file=config,
        overrides=overrides or (),
        data=data,
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
    )
    run(chosen, workers=workers, ray=ray, started=started)
