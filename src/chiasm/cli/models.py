"""``chiasm models``: the models that can be trained."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table


def models() -> None:
    """List the models: weights, operations, and whether 'chiasm export' takes them.

    A model that is not exported predicts and evaluates from the run's folder, with PyTorch.
    """
    import chiasm.detection.models.named
    import chiasm.diagnosis.models.named  # noqa: F401  (importing both registers the models)

    _detectors()
    typer.echo(
        "Multiply-accumulates of one part: both sensors at 256 x 256, one random genotype. Pruned: "
        "without layers that do not reach the head.\n"
    )
    _baselines()
    typer.echo("Entries of memory banks do not count as parameters.\n")
    _classifiers()
    typer.echo("GFLOP of one recording. As published: without attention, as the paper counts.")


def _detectors() -> None:
    import torch

    from chiasm.detection.models.cost import typical_cost
    from chiasm.registry import models as registered

    table = _table("RGB + 3D", "parameters", "GMAC", "GMAC, pruned", wing="detector")
    for model in registered("detector"):
        if model.baseline:
            continue
        before, after = typical_cost(model.name)
        figures = (f"{before.parameters:,}", f"{before.macs / 1e9:.1f}", f"{after.macs / 1e9:.1f}")
        with torch.device("meta"):
            obstacle = model.builder("concatenation").export_obstacle
        table.add_row(model.name, *figures, _yes(obstacle is None), model.summary)
    Console().print(table)


def _baselines() -> None:
    from chiasm.registry import models as registered

    table = _table("RGB + 3D, baselines", "parameters", wing="detector")
    for model in registered("detector"):
        if model.baseline:
            detector = model.builder()
            count = sum(p.numel() for p in detector.parameters())
            exported = _yes(detector.export_obstacle is None)
            table.add_row(model.name, f"{count:,}", exported, model.summary)
    Console().print(table)


def _classifiers() -> None:
    import torch

    from chiasm.diagnosis.models.cost import flops
    from chiasm.registry import models as registered

    table = _table(
        "PRPD image + series", "parameters", "GFLOP as published", "GFLOP", wing="classifier"
    )
    for model in registered("classifier"):
        with torch.device("meta"):
            network = model.builder()
        # A classifier fitted in one call has no operations to count before it is fitted.
        counted = ["–", "–"]
        if network.training_procedure == "stages":
            counted = [f"{flops(network, how) / 1e9:.2f}" for how in ("paper", "true")]
        table.add_row(
            model.name,
            f"{sum(p.numel() for p in network.parameters()):,}",
            *counted,
            _yes(network.exportable),
            model.summary,
        )
    Console().print(table)


def _table(first: str, *figures: str, wing: str) -> Table:
    from chiasm.registry import models as registered

    table = Table(box=None, pad_edge=False)
    # A name that is cut short could not be typed.
    longest = max(len(model.name) for model in registered(wing))
    table.add_column(first, no_wrap=True, min_width=longest)
    for column in figures:
        table.add_column(column, justify="right")
    table.add_column("exported")
    table.add_column("description")
    return table


def _yes(exported: bool) -> str:
    """Return whether ``chiasm export`` takes the model; ``predict`` and ``evaluate`` take all."""
    return "yes" if exported else "no"
