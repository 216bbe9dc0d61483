"""``chiasm export``: a trained model as a folder that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    precision: Annotated[str, typer.Option(help="fp32, or with openvino bf16 or int8.")] = "fp32",
    data: Annotated[
        Path | None, typer.Option(help="Where the run's data lie now, if they moved.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(help="Descriptors of normals to keep for each sensor; fewer are quicker."),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(help="Channels in which nearest normals are looked for, e.g. 64; quicker."),
    ] = None,
) -> None:
    """Export a model, prove that it says the same, and write its card."""
    from chiasm.deploy.export import export as write

    deployment = write(
        run, out, to=to, precision=precision, data=data, memory=memory, search=search
    )
    typer.echo(f"{out} holds {deployment.method} ({to}, {precision}). Compared with the run:")
    for name, value in deployment.parity.items():
        if not isinstance(value, dict):
            shown = f"{value:.4g}" if isinstance(value, float) else value
            typer.echo(f"  {name.replace('_', ' ')}: {shown}")
