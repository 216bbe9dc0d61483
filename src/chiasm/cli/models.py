"""``chiasm models``: what can be trained."""

from __future__ import annotations

import typer


def models() -> None:
    """List the named models."""
    import chiasm.detectors.adnas  # noqa: F401  (registers its models)
    from chiasm.registry import models as registered

    for model in registered():
        typer.echo(f"{model.name:14} {model.summary}")
