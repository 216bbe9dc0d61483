"""``chiasm settings``: the settings that are given as key=value."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def settings(
    model: Annotated[str, typer.Argument(help="Name of a model; 'chiasm models' lists them.")] = (
        "adnas_light"
    ),
) -> None:
    """List the settings of a model and its presets: key=value of train and search."""
    from chiasm.api import facts_of, presets_of

    facts, options = facts_of(model)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for fact in facts:
        about = Text(f"{fact.kind}; {fact.default}", style="dim")
        table.add_row(fact.name, Text.assemble(about, f"\n{fact.meaning}"))
    Console().print(table)
    if options:
        typer.echo(f"\nOptions of {model}, given as options={{name: value}}: {', '.join(options)}.")
    for name, content in presets_of(model).items():
        typer.echo(f"\nWhat preset={name} sets, unless given:\n")
        typer.echo("\n".join(f"  {line}" for line in content.splitlines()))
