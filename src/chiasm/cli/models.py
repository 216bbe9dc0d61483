"""``chiasm models`` and ``chiasm settings``: the models that can be trained, and what is set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from chiasm.cli.options import complete_model
from chiasm.cli.tables import Json, output_console, print_json, print_table


def models(json: Json = False) -> None:
    """List the models: weights, operations, and whether 'chiasm export' takes them.

    A model that is not exported predicts and evaluates from the run's folder, with PyTorch.
    """
    import chiasm.detection.models.named
    import chiasm.diagnosis.models.named  # noqa: F401  (importing both registers the models)

    if json:
        print_json([*_detectors(), *_baselines(), *_classifiers()])
        return
    print_table(
        ("RGB + 3D", "parameters", "GMAC", "GMAC, pruned", "exported", "description"),
        [
            (row["name"], *_figures(row, "gmac", "gmac_pruned"), _exported(row), row["description"])
            for row in _detectors()
        ],
    )
    typer.echo(
        "Multiply-accumulates of one part: both sensors at 256 x 256, one random genotype. Pruned: "
        "without layers that do not reach the head.\n"
    )
    print_table(
        ("RGB + 3D, baselines", "parameters", "exported", "description"),
        [(row["name"], *_figures(row), _exported(row), row["description"]) for row in _baselines()],
    )
    typer.echo("Entries of memory banks do not count as parameters.\n")
    print_table(
        (
            *("PRPD image + series", "parameters", "GFLOP as published", "GFLOP"),
            *("exported", "description"),
        ),
        [
            (
                *(row["name"], *_figures(row, "gflop_as_published", "gflop", digits=2)),
                *(_exported(row), row["description"]),
            )
            for row in _classifiers()
        ],
    )
    typer.echo("GFLOP of one recording. As published: without attention, as the paper counts.")


def _detectors() -> list[dict[str, Any]]:
    import torch

    from chiasm.detection.models.cost import typical_cost
    from chiasm.registry import models as registered

    rows = []
    for model in registered("detector"):
        if model.baseline:
            continue
        before, after = typical_cost(model.name)
        with torch.device("meta"):
            obstacle = model.builder("concatenation").export_obstacle
        rows.append(
            _row(model, before.parameters, exported=obstacle is None)
            | {"gmac": before.macs / 1e9, "gmac_pruned": after.macs / 1e9}
        )
    return rows


def _baselines() -> list[dict[str, Any]]:
    from chiasm.registry import models as registered

    rows = []
    for model in registered("detector"):
        if model.baseline:
            detector = model.builder()
            count = sum(p.numel() for p in detector.parameters())
            rows.append(_row(model, count, exported=detector.export_obstacle is None))
    return rows


def _classifiers() -> list[dict[str, Any]]:
    import torch

    from chiasm.diagnosis.models.cost import flops
    from chiasm.registry import models as registered

    rows = []
    for model in registered("classifier"):
        with torch.device("meta"):
            network = model.builder()
        # A classifier fitted in one call has no operations to count before it is fitted.
        counted: list[float | None] = [None, None]
        if network.training_procedure == "stages":
            counted = [flops(network, how) / 1e9 for how in ("paper", "true")]
        rows.append(
            _row(
                model,
                sum(p.numel() for p in network.parameters()),
                exported=network.exportable,
            )
            | {"gflop_as_published": counted[0], "gflop": counted[1]}
        )
    return rows


def _row(model: Any, parameters: int, *, exported: bool) -> dict[str, Any]:
    return {
        "name": model.name,
        "wing": model.wing,
        "baseline": model.baseline,
        "parameters": parameters,
        "exported": exported,
        "description": model.summary,
    }


def _figures(row: dict[str, Any], *names: str, digits: int = 1) -> tuple[str, ...]:
    values = (row[name] for name in names)
    cells = ("–" if value is None else f"{value:.{digits}f}" for value in values)
    return (f"{row['parameters']:,}", *cells)


def _exported(row: dict[str, Any]) -> str:
    """Return whether ``chiasm export`` takes the model; ``predict`` and ``evaluate`` take all."""
    return "yes" if row["exported"] else "no"


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
