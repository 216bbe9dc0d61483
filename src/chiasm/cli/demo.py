"""``chiasm demo``: the whole workflow on built-in data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    what: Annotated[str, typer.Argument(help="parts or discharge.")] = "parts",
    out: Annotated[
        Path | None, typer.Option(help="Write data, model and report to this folder.")
    ] = None,
    product: Annotated[str, typer.Option(help="Built-in product of the demo of parts.")] = "flange",
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve the operators' page at the end, at a terminal only."),
    ] = False,
) -> None:
    """Make data, train, evaluate and export a model. Takes minutes on two processor cores."""
    from chiasm.api import demo as run
    from chiasm.errors import ConfigurationError

    if what == "parts":
        folder = out or Path("chiasm-demo")
        run(folder, product=product)
    elif what == "discharge":
        folder = out or Path("chiasm-demo-discharge")
        run(folder, wing="diagnosis")
    else:
        raise ConfigurationError(f"There is no demo of {what!r}; choose parts or discharge.")
    _to_the_line(folder, serve=serve and sys.stdout.isatty())


def _to_the_line(folder: Path, *, serve: bool) -> None:
    """Export the trained model, then serve it or print how to."""
    from chiasm.cli.serve import serve as serve_models

    station = folder / "station"
    try:
        from chiasm.deploy.export import export
    except ModuleNotFoundError as error:
        typer.echo(
            f"The model was not exported: {error.name} is missing; pip install 'chiasm[export]'."
        )
        return
    typer.echo("Exporting ...")
    export(folder / "run", station, to="openvino", precision="fp32")
    if serve:
        serve_models([str(station)], log=str(folder / "verdicts.sqlite"))
        return
    typer.echo(
        f"To open the operators' page, run 'chiasm serve {station}' and open http://127.0.0.1:8000/"
    )
