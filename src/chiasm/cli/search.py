"""``chiasm search``: search a fusion architecture for parts or recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from chiasm.cli.options import (
    BudgetMb,
    BudgetMs,
    Config,
    Data,
    Device,
    Lamp,
    Minutes,
    Out,
    Ray,
    Seed,
    Strict,
    Workers,
    budgets,
)

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
    device: Device = None,
    workers: Workers = None,
    ray: Ray = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="adnas_light (default), adnas_slim or adnas_paper for parts; fused_small for "
            "recordings."
        ),
    ] = None,
    strict: Strict = None,
    budget_ms: BudgetMs = None,
    budget_mb: BudgetMb = None,
) -> None:
    """Search how to fuse the two sensors. Writes genotype.json and its drawing.

    With a budget, architectures evolve by validation AP and by cost; a table lists the best
    trade-offs, and pareto.json all of them.

    'chiasm train' with the same --out trains the architecture. --minutes is the budget of search
    and training together.
    """
    from chiasm.api import search as run

    given = list(overrides or ())
    if model is None and given and "=" not in given[0]:
        model = given.pop(0)
    given += budgets(budget_ms, budget_mb)
    run(
        model=model,
        file=config,
        overrides=given,
        data=data,
        out=out,
        minutes=minutes,
        seed=seed,
        lamp=lamp,
        device=device,
        strict=strict,
        workers=workers,
        ray=ray,
    )
    _print_trade_offs(out)


def _print_trade_offs(folder: Path) -> None:
    """Print the finalists of an evolution with accuracy and cost; nothing for another search."""
    from chiasm.reporting.trade_offs import read_trade_offs, rows
    from chiasm.runs.evolution_round import PARETO

    trade_offs = read_trade_offs(folder / PARETO)
    if trade_offs is None:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("finalist")
    for column in (trade_offs.metric.replace("_", " "), "ms", "MB", "steps"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows(trade_offs, used=trade_offs.chosen):
        figures = [row[name] for name in ("figure", "ms", "MB", "steps", "marks")]
        table.add_row(f"{row['number']} {row['fusion']}", *figures)
    Console().print(table)
    typer.echo(f"All trade-offs are in {folder / PARETO}.")
