"""``chiasm settings``: the settings that are given as key=value."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from chiasm.cli.options import complete_model
from chiasm.cli.tables import Json, output_console, print_json


def settings(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a model; 'chiasm models' lists them.", autocompletion=complete_model
        ),
    ] = "adnas_light",
    json: Json = False,
) -> None:
    """List the settings of a model and its presets: key=value of train and search."""
    from chiasm.api import facts_of, presets_of

    facts, options = facts_of(model)
    presets = presets_of(model)
    if json:
        listed = [asdict(fact) for fact in facts]
        print_json({"model": model, "settings": listed, "options": options, "presets": presets})
        return
    console = output_console()
    for fact in facts:
        about = Text(f"  {fact.kind}; {fact.default}", style="dim")
        console.print(Text.assemble((fact.name, "bold"), about))
        console.print(Padding(Text(fact.meaning), (0, 0, 0, 4), expand=False))
    if options:
        typer.echo(f"\nOptions of {model}, given as options={{name: value}}: {', '.join(options)}.")
    for name, content in presets.items():
        typer.echo(f"\nWhat preset={name} sets, unless given:\n")
        typer.echo("\n".join(f"  {line}" for line in content.splitlines()))
