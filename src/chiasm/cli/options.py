"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
