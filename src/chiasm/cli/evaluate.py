"""``chiasm evaluate``: figures, pictures and a report of the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chiasm.cli.options import Data, Device, Lamp, Mlflow, OneProduct, Strict
from chiasm.cli.tables import Json, only_json, print_json


def evaluate(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run, of a model, or one that 'chiasm export' wrote.")
    ],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the report to this folder (default: RUN/report; RUN_report if exported)."
        ),
    ] = None,
    lamp: Lamp = None,
    product: OneProduct = None,
    device: Device = None,
    strict: Strict = None,
    splits: Annotated[
        str,
        typer.Option(
            help="Classifiers only: also train and test on these splits and report the gap, e.g. "
            "'random,equipment' or 'equipment=GIS-25.8kV'."
        ),
    ] = "",
    left_out: Annotated[
        str,
        typer.Option(
            help="Classifiers only: also train without each of these classes and test whether they "
            "are noticed, e.g. 'void'."
        ),
    ] = "",
    mlflow: Mlflow = None,
    json: Json = False,
) -> None:
    """Evaluate a model on the test split. Writes metrics.json and report.html.

    --json prints the content of metrics.json.
    """
    from chiasm.api import evaluate as run_evaluation

    if mlflow is not None:  # known to be there before the work
        from chiasm.runs.mlflow_log import contracts_of_run, experiment_id, log_to_mlflow

        contracts_of_run(run)
        experiment_id(mlflow)
    with only_json(json):
        metrics = run_evaluation(
            run,
            data=data,
            out=out,
            lamp=lamp,
            product=product,
            splits=_names(splits),
            left_out=_names(left_out),
            device=device or "auto",
            strict=bool(strict),
        )
        if mlflow is not None:
            log_to_mlflow(run, experiment=mlflow, report=out)
    if json:
        print_json(metrics)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
