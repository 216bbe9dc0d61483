"""``chiasm demo``: the main job on built-in data, for someone who has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    what: Annotated[str, typer.Argument(help="parts, or discharge for the second wing.")] = "parts",
    out: Annotated[Path | None, typer.Option(help="Folder for data, model and report.")] = None,
    product: Annotated[
        str, typer.Option(help="Of parts: one of the built-in products.")
    ] = "flange",
) -> None:
    """Make data, train and evaluate: minutes on two processor cores."""
    from chiasm.errors import ConfigurationError

    if what == "parts":
        from chiasm.workflows.demo import demo as run

        run(out or Path("chiasm-demo"), product=product)
    elif what == "discharge":
        from chiasm.workflows.demo_discharge import demo_discharge

        demo_discharge(out or Path("chiasm-demo-discharge"))
    else:
        raise ConfigurationError(f"There is no demo of {what!r}; there are: parts, discharge.")
