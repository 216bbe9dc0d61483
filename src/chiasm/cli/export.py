"""``chiasm export``: write a trained model as a folder that runs without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import OneProduct
from chiasm.errors import renamed


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Write the exported model to this folder.")],
    to: Annotated[str, typer.Option(help="Format of the graph: openvino or onnx.")] = "openvino",
    precision: Annotated[str, typer.Option(help="fp32; with openvino also bf16 or int8.")] = "fp32",
    data: Annotated[
        Path | None, typer.Option(help="Present location of the run's data, if they were moved.")
    ] = None,
    memory_entries: Annotated[
        int | None,
        typer.Option(help="Descriptors of normals to keep for each sensor; fewer are quicker."),
    ] = None,
    search_channels: Annotated[
        int | None,
        typer.Option(help="Channels in which nearest normals are looked for, e.g. 64; quicker."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an exported model that is there already.")
    ] = False,
    product: OneProduct = None,
    memory: Annotated[int | None, typer.Option(hidden=True)] = None,
    search: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Export a trained model. Checks that the export gives the same scores; writes a model card."""
    from chiasm.deploy.export import export as write
    from chiasm.detection.products.models import folder_of_product

    written = write(
        folder_of_product(run, product),
        out,
        to=to,
        precision=precision,
        data=data,
        memory_entries=_renamed("--memory-entries", memory_entries, "--memory", memory),
        search_channels=_renamed("--search-channels", search_channels, "--search", search),
        force=force,
    )
    for name, deployment in (written if isinstance(written, dict) else {"": written}).items():
        typer.echo(f"{out / name} holds {deployment.method} ({to}, {precision}).")
        typer.echo(deployment.parity["summary"])
        typer.echo(f"All figures are in {out / name / 'MODEL_CARD.md'}.")


def _renamed(name: str, value: int | None, old_name: str, old_value: int | None) -> int | None:
    """Return an option's value, given under its present name or, with a remark, its old one."""
    if old_value is None:
        return value
    typer.echo(f"chiasm: {renamed('option', old_name, name)}", err=True)
    return old_value if value is None else value
