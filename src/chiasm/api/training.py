"""Train, search and demo, for both wings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chiasm.api.configuration import config_of, register_models, wing_of
from chiasm.errors import ConfigurationError
from chiasm.registry import searched_models
from chiasm.runs.extras import names_extra

if TYPE_CHECKING:
    from chiasm.api.configuration import Config
    from chiasm.fusion.costs import PieceCosts
    from chiasm.fusion.genotype import Genotype
    from chiasm.runs.crew import Crew


@names_extra
def train(
    config: Config | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    started: float | None = None,
    **settings: Any,
) -> Any:
    """Train a detector or a classifier; ``out/model`` is then the model.

    A run that was interrupted goes on when it is started again with the same folder.

    Args:
        config: settings of the run: a ``DetectionConfig`` or a ``DiagnosisConfig``.
        workers, ray: processes of the search, see ``search``, and of the training after it.
        started: ``time.monotonic()`` from which the minutes count; None is now.
        settings: instead of ``config``, the settings by name: ``data``, ``out``, ``model``, …

    Returns:
        The wing's ``TrainResult``: the run's folder, the minutes and a validation figure.

    Raises:
        ConfigurationError: a setting is wrong.
        DataError: the data cannot be read.
    """
    started = time.monotonic() if started is None else started
    chosen = config_of(config, settings)
    procedure = import_module(f"chiasm.{wing_of(chosen)}.train").train
    with _crew(chosen, workers, ray) as crew:
        return procedure(chosen, measure=_measure(chosen), crew=crew, started=started)


@names_extra
def add_products(
    run: Path | str, *, data: Path | str | Sequence[Path | str], device: str | None = None
) -> tuple[str, ...]:
    """Add products to a model of several: a memory and a calibration for each new one.

    The network, and whatever belongs to the other products, stay as they are. Returns the names of
    the new products.

    Args:
        run: folder of the run, which gets the new products.
        data: folder or table of the new products, or several.
        device: that computes; None takes the run's.

    Raises:
        ConfigurationError: the run has one product alone, or one of that name already.
        DataError: the data cannot be read.
    """
    from chiasm.detection.config import DetectionConfig
    from chiasm.detection.products.training import add_products as add
    from chiasm.detection.train import train as procedure

    register_models()
    settings = Path(run) / "config.yaml"
    if not settings.is_file():
        raise ConfigurationError(f"{run} is not a run's folder: it has no config.yaml.")
    paths = [data] if isinstance(data, Path | str) else list(data)
    before = DetectionConfig.make(file=settings)
    changed = {"data": Path(paths[0]), "more_data": tuple(map(Path, paths[1:])), "out": Path(run)}
    if device is not None:
        changed["device"] = device
    return add(before.model_copy(update=changed), train=procedure)


@names_extra
def search(
    config: Config | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    **settings: Any,
) -> Genotype:
    """Search how to fuse both sensors; writes ``genotype.json`` and its drawing to ``out``.

    ``train`` in the same folder goes on from there.

    Args:
        config: settings of the run: a ``DetectionConfig`` or a ``DiagnosisConfig``.
        workers: processes that compute at a time what the search can divide: stored features,
            architectures of a generation, finalists. None is one, and on a cluster as many as it
            has processors, or graphics cards. The result is the same but for rounding.
        ray: address of a Ray cluster, ``"auto"``, or ``"local"`` for one on this machine; None
            takes processes of this machine. Data and run must lie where all machines see them.
        settings: instead of ``config``, the settings by name. A model stands for the searched one
            that fuses its features, for example ``mad_small`` for ``fused_small``.

    Raises:
        ConfigurationError: the model's fusion is not searched, or a setting is wrong.
    """
    if config is None:
        settings["searched"] = True
        if settings.get("model") is not None:
            name = str(settings["model"]).replace("-", "_")
            fusing = (model.name for model in register_models() if model.fuses == name)
            settings["model"] = next(fusing, name)
    chosen = config_of(config, settings)
    searched = {model.name for model in searched_models()}
    if chosen.model not in searched:
        raise ConfigurationError(
            f"{chosen.model} has no fusion to search; choose one of {', '.join(sorted(searched))}."
        )
    procedure = import_module(f"chiasm.{wing_of(chosen)}.search").search
    with _crew(chosen, workers, ray) as crew:
        return procedure(chosen, measure=_measure(chosen), crew=crew)


@names_extra
def demo(
    out: Path | str, *, wing: Literal["detection", "diagnosis"] = "detection", **options: Any
) -> dict[str, Any]:
    """Make data, train and evaluate; returns the content of ``metrics.json``.

    Args:
        out: folder for data, run and report.
        wing: ``"detection"`` renders parts, ``"diagnosis"`` simulates recordings.
        options: ``minutes`` of both; ``product`` of parts; ``count`` and ``sessions`` of
            recordings.
    """
    register_models()
    if wing not in ("detection", "diagnosis"):
        raise ConfigurationError(f"There is no wing {wing!r}; there are: detection, diagnosis.")
    return import_module(f"chiasm.{wing}.demo").demo(out, **options)


def _crew(config: Config, workers: int | None, ray: str | None) -> AbstractContextManager[Crew]:
    from chiasm.runs.crew import gather

    config.out.mkdir(parents=True, exist_ok=True)
    seen = (config.data, config.out)  # by all machines of a cluster
    module = f"chiasm.{wing_of(config)}.train"
    return gather(workers, ray, device=config.device, shared=seen, module=module)


def _measure(config: Config) -> Callable[..., PieceCosts] | None:
    """Return what measures costs, for a search that weighs them; it needs the exported runtime."""
    if not config.search.evolves:
        return None
    from chiasm.deploy.fusion_costs import measure_classifier_costs, measure_costs

    return measure_costs if wing_of(config) == "detection" else measure_classifier_costs
