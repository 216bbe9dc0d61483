"""A run's settings, figures by epoch, report and contract in MLflow, beside a team's other models.

The run's folder is read when it is complete, so that a training waits for no server, and earlier
runs can be logged too. The folder's ``mlflow.json`` remembers which MLflow run stands for it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runs.console import say
from chiasm.runs.model_folder import CONTRACT

REMEMBERED = "mlflow.json"
_SETTINGS, _FIGURES = "config.yaml", "metrics.json"
_FILES = (_SETTINGS, "genotype.json", "genotype.svg", "pareto.json", "finalists.json")
_LONGEST = 6000  # letters of a parameter that MLflow takes
_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100  # metrics and parameters of one request
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")


def experiment_id(experiment: str, uri: str | None = None) -> str:
    """Return the experiment's identity; it is made where there is none.

    Args:
        experiment: name.
        uri: of the tracking server or store; None is that of ``MLFLOW_TRACKING_URI``.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
        ConfigurationError: the server or store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = _client(uri)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            return str(client.create_experiment(experiment))
        if known.lifecycle_stage != "active":
            raise ConfigurationError(
                f"The experiment {experiment!r} of MLflow was deleted; restore it or take another "
                "name."
            )
        return str(known.experiment_id)
    except MlflowException as error:
        raise ConfigurationError(_refused(error, uri)) from error


def log_to_mlflow(
    run: Path | str,
    *,
    experiment: str = "chiasm",
    uri: str | None = None,
    report: Path | str | None = None,
) -> str:
    """Log a run to MLflow: parameters, metrics by epoch, the report's figures, and artefacts.

    Parameters are the settings (``search.epochs``); metrics are ``STAGE/NAME`` by epoch, and
    ``report/GROUP/NAME`` of the report, without intervals. Artefacts are the settings, the
    contract, the genotype with its drawing, and the report. Called again, as after an evaluation,
    the same MLflow run gets the newer report; a model that was trained again gets another run.

    Args:
        run: folder of ``train``, with its model.
        experiment: name; it is made where there is none.
        uri: of the tracking server or store; None is that of ``MLFLOW_TRACKING_URI``.
        report: folder of the report; None is ``report`` in the run's folder.

    Returns:
        The identity of the MLflow run.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
        ArtifactError: the folder holds no run with a model.
        ConfigurationError: the server or store cannot be used.
    """
    folder = Path(run)
    contracts = contracts_of_run(folder)
    from mlflow.exceptions import MlflowException

    place = folder / "report" if report is None else Path(report)
    identity = _digest(contracts)
    number = experiment_id(experiment, uri)
    try:
        client = _client(uri)
        name = _known_run(client, folder, identity, number)
        if name is None:
            name = _new_run(client, folder, contracts, number)
            content = {"run_id": name, "experiment_id": number, "contracts_sha256": identity}
            (folder / REMEMBERED).write_text(json.dumps(content, indent=1) + "\n")
        _log_metrics(client, name, _report_figures(place))
        for path in (folder / file for file in _FILES):
            if path.is_file():
                client.log_artifact(name, str(path))
        for path in contracts:
            inner = path.parent.relative_to(folder).as_posix()
            client.log_artifact(name, str(path), inner)
        if (place / _FIGURES).is_file():
            client.log_artifacts(name, str(place), "report")
    except MlflowException as error:
        raise ConfigurationError(_refused(error, uri)) from error
    say(f"Logged to the experiment {experiment!r} of MLflow as run {name}.")
    return name


def _client(uri: str | None) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _refused(error: Exception, uri: str | None) -> str:
    place = "at MLFLOW_TRACKING_URI, or MLflow's default," if uri is None else str(uri)
    return (
        f"The MLflow store {place} could not be used: {str(error).rstrip('.')}. A run that is "
        "trained stays complete in its folder; mend the address and log it again."
    )


def contracts_of_run(folder: Path) -> list[Path]:
    """Return the contracts of a run's model, or of its products' models.

    Raises ``ArtifactError`` where the folder holds no trained run.
    """
    places = (folder / "model", folder / "products")
    contracts = [path for place in places for path in sorted(place.rglob(CONTRACT))]
    if not contracts or not (folder / _SETTINGS).is_file():
        raise ArtifactError(
            f"{folder} holds no trained run, which MLflow could list: a {_SETTINGS} and a "
            f"{CONTRACT} were expected. Name the folder that 'chiasm train' wrote, not that of the "
            "model or of an export."
        )
    return contracts


def _digest(contracts: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in contracts:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _known_run(client: Any, folder: Path, identity: str, experiment: str) -> str | None:
    """Return the MLflow run that stands for these contracts, if it still does."""
    from mlflow.exceptions import MlflowException

    try:
        content = json.loads((folder / REMEMBERED).read_text())
        if (content["contracts_sha256"], content["experiment_id"]) != (identity, experiment):
            return None
        name = str(content["run_id"])
        return name if client.get_run(name).info.lifecycle_stage == "active" else None
    except (OSError, ValueError, KeyError, TypeError, MlflowException):
        return None


def _new_run(client: Any, folder: Path, contracts: list[Path], experiment: str) -> str:
    """Make an MLflow run with the parameters, tags and metrics by epoch of a run."""
    contract = json.loads(contracts[0].read_text())
    wing = "detection" if contract.get("wing") == "detector" else "diagnosis"
    tags = {
        "chiasm.wing": wing,
        "chiasm.method": str(contract.get("method", "")),
        "chiasm.folder": str(folder.resolve()),
    }
    made = client.create_run(experiment, tags=tags, run_name=folder.resolve().name)
    name = str(made.info.run_id)
    try:
        settings = list(_flat(yaml.safe_load((folder / _SETTINGS).read_text())))
        from mlflow.entities import Param

        for start in range(0, len(settings), _PARAMS_AT_ONCE):
            some = settings[start : start + _PARAMS_AT_ONCE]
            client.log_batch(name, params=[Param(_name(k), v[:_LONGEST]) for k, v in some])
        _log_metrics(client, name, _by_epoch(folder / "logs"))
    except BaseException:
        client.set_terminated(name, "FAILED")
        raise
    client.set_terminated(name)
    return name


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and texts of settings; nested ones are opened."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value)


def _by_epoch(logs: Path) -> Iterator[tuple[str, float, int]]:
    """Yield ``STAGE/NAME``, figure and epoch of every stage that was logged."""
    for path in sorted(logs.glob("*/metrics.csv")):
        last: dict[tuple[str, int], float] = {}  # of several steps of an epoch the last one
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                epoch = int(float(row.get("epoch") or 0))
                for name, text in row.items():
                    if name not in ("epoch", "step") and text:
                        last[f"{path.parent.name}/{name}", epoch] = float(text)
        yield from ((name, figure, epoch) for (name, epoch), figure in last.items())


def _report_figures(report: Path) -> Iterator[tuple[str, float, int]]:
    """Yield the report's figures: whatever has a ``value``."""
    path = report / _FIGURES
    if path.is_file():
        for name, figure in _values(json.loads(path.read_text())):
            yield f"report/{name}", figure, 0


def _values(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for key, inner in content.items():
        if not isinstance(inner, Mapping):
            continue
        if isinstance(inner.get("value"), int | float):
            yield f"{before}{key}", float(inner["value"])
        else:
            yield from _values(inner, f"{before}{key}/")


def _log_metrics(client: Any, run: str, figures: Iterator[tuple[str, float, int]]) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    metrics = [Metric(_name(n), v, now, step) for n, v, step in figures if math.isfinite(v)]
    for start in range(0, len(metrics), _AT_ONCE):
        client.log_batch(run, metrics=metrics[start : start + _AT_ONCE])


def _name(text: str) -> str:
    """Return a name that MLflow takes."""
    return _NOT_IN_NAMES.sub("_", text)
