"""``chiasm models``: what can be trained."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table


def models() -> None:
    """List the named models with what they cost at 256 x 256 pixels."""
    from chiasm.config import RunConfig
    from chiasm.detectors.cost import typical_cost
    from chiasm.registry import models as registered
    from chiasm.workflows.workbench import pools_of

    table = Table(box=None, pad_edge=False)
    for column in ("model", "parameters", "GMAC", "GMAC, pruned", "what it is"):
        table.add_column(column, justify="left" if column in ("model", "what it is") else "right")
    for model in registered():
        pools = pools_of(RunConfig(data=".", out=".", model=model.name))
        before, after = typical_cost(model.name, pools=pools)
        table.add_row(
            model.name,
            f"{before.parameters:,}",
            f"{before.macs / 1e9:.1f}",
            f"{after.macs / 1e9:.1f}",
            model.summary,
        )
    Console().print(table)
    typer.echo(
        "\nBoth sensors, one random genotype, per part. Pruned: without what the head cannot see."
    )
