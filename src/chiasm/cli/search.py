"""``chiasm search``: search a fusion architecture for parts or recordings."""

from __future__ import annotations

from typing import Annotated

import typer

from chiasm.cli.options import Config, Data, Lamp, Minutes, Out, Seed

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [KEY=VALUE]...", help="Model to search for, and settings as key=value."
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
        typer.Option(
            help="adnas_light, adnas_slim or adnas_paper for parts; fused_small for recordings."
        ),
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            min=0, help="Milliseconds a part that the exported model may take on this machine."
        ),
    ] = None,
    budget_mb: Annotated[
        float | None, typer.Option(min=0, help="Megabytes that its weights and memories may take.")
    ] = None,
) -> None:
    """Search how to fuse the two sensors. Writes genotype.json and its drawing.

    With a budget, architectures evolve by validation AP and by cost, and pareto.json lists the best
    trade-offs.

    'chiasm train' with the same --out trains the architecture. --minutes is the budget of search
    and training together.
    """
    from chiasm.api import search as run

    given = list(overrides or ())
    if model is None and given and "=" not in given[0]:
        model = given.pop(0)
    budgets = {"search.budget_ms": budget_ms, "search.budget_mb": budget_mb}
    given += [f"{name}={value}" for name, value in budgets.items() if value is not None]
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
