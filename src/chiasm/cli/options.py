"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

RENAMED = {"--light": "--lamp"}

Data = Annotated[
    Path,
    typer.Option("--data", help="Folder or manifest with the parts (see 'chiasm data check')."),
]
Out = Annotated[Path, typer.Option("--out", help="The run's folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Budget for the whole run.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything.")]
Lamp = Annotated[int | None, typer.Option("--lamp", help="Which lamp, for data with several.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as key=value, e.g. image_size=384 modalities=geometry."),
]


class RenamedOptions(TyperGroup):
    """The commands, which take options by their earlier names too, with a remark on stderr."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace earlier names of options before any command reads them."""
        return super().parse_args(ctx, [_present_name(word) for word in args])


def _present_name(word: str) -> str:
    name, equals, value = word.partition("=")
    if name not in RENAMED:
        return word
    typer.echo(f"chiasm: the option {name} is now called {RENAMED[name]}; write that.", err=True)
    return f"{RENAMED[name]}{equals}{value}"
