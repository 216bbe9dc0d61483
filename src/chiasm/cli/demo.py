"""``chiasm demo``: the main job on built-in data, for someone who has none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    what: Annotated[str, typer.Argument(help="parts, or discharge for the second wing.")] = "parts",
    out: Annotated[Path | None, typer.Option(help="Folder for data, model and report.")] = None,
    product: Annotated[
        str, typer.Option(help="Of parts: one of the built-in products.")
    ] = "flange",
    serve: Annotated[
        bool, typer.Option("--serve", help="At a terminal, serve the operators' page at the end.")
    ] = False,
) -> None:
    """Make data, train, evaluate and export: minutes on two processor cores."""
    from chiasm.api import demo as run
    from chiasm.errors import ConfigurationError

    if what == "parts":
        folder = out or Path("chiasm-demo")
        run(folder, product=product)
    elif what == "discharge":
        folder = out or Path("chiasm-demo-discharge")
        run(folder, wing="diagnosis")
    else:
        raise ConfigurationError(f"There is no demo of {what!r}; there are: parts, discharge.")
    _to_the_line(folder, serve=serve and sys.stdout.isatty())


def _to_the_line(folder: Path, *, serve: bool) -> None:
    """Export the model that was learnt, and say where its page is, or serve it."""
    from chiasm.cli.serve import serve as stand

    station = folder / "station"
    try:
        from chiasm.deploy.export import export
    except ModuleNotFoundError as error:
        typer.echo(f"Not exported, for {error.name} is missing: pip install 'chiasm[export]'.")
        return
    typer.echo("Exporting ...")
    export(folder / "run", station, to="openvino", precision="fp32")
    if serve:
        stand([str(station)], log=folder / "verdicts.sqlite")
        return
    typer.echo(f"Operators' page: run 'chiasm serve {station}' and open http://127.0.0.1:8000/")
