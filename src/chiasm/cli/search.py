"""``chiasm search``: find a fusion architecture, of either wing."""

from __future__ import annotations

from typing import Annotated

import typer

from chiasm.cli.options import Config, Data, Lamp, Minutes, Out, Seed

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [KEY=VALUE]...", help="What to search for, and settings as key=value."
    ),
]


def search(
    data: Data,
    out: Out,
    overrides: Settings = None,
    config: Config = None,
    minutes: Minutes = None,
    seed: Seed = None,
    lamp: Lamp = None,
    model: Annotated[
        str | None,
        typer.Option(help="adnas_* for parts, fused_small (or mad_small) for recordings."),
    ] = None,
) -> None:
    """Search how to fuse both sensors of a product; writes genotype.json and its drawing.

    'chiasm train' in the same folder goes on from there. Given minutes are those of search and
    training together.
    """
    from chiasm.api import search as run

    given = list(overrides or ())
    if model is None and given and "=" not in given[0]:
        model = given.pop(0)
    run(
        model=model,
        file=config,
        overrides=given,
        data=data,
        out=out,
        minutes=minutes,
        seed=seed,
        lamp=lamp,
    )
