"""Train a detector from a folder of normal parts, searching its fusion first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from chiasm.detection.building import trains_features
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.cross_calibration import check_refits, cross_scores, remove_folds
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.evolution import MeasureCosts
from chiasm.detection.fusion_search.final_training import (
    compared,
    finish,
    fusion_of,
    trained,
    training_seconds,
)
from chiasm.detection.opening import open_run
from chiasm.detection.products.training import check_products, products_of, train_products
from chiasm.detection.search import CONCATENATION
from chiasm.detection.train_baseline import train_baseline
from chiasm.detection.training.known_defects import let_defects_choose
from chiasm.errors import ConfigurationError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model, models
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.data_parallel import check_device, check_rows, is_several
from chiasm.training.device import device_errors, find_device
from chiasm.training.trainer import LOWER

FUSIONS = ("search", "best", CONCATENATION, "random")


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Result of a run.

    Attributes:
        folder: the run's folder; ``folder/model`` is the model.
        genotype: of a fusion that has one.
        minutes: of the whole run.
        validation_ap: pixel AP on held-out normals with anomalies of other generators; NaN of
            a baseline.
    """

    folder: Path
    genotype: Genotype | None
    minutes: float
    validation_ap: float


def train(
    config: DetectionConfig,
    *,
    data: DetectionDataModule | None = None,
    measure: MeasureCosts | None = None,
    crew: Crew = ALONE,
    started: float | None = None,
) -> TrainResult:
    """Train a detector and save it; search its fusion first where ``config.fusion`` asks for that.

    A baseline is trained in its own steps. An interrupted run continues where it stopped when it
    is started again with the same folder.

    Args:
        config: of the run.
        data: of the run; None opens them.
        measure: measures what pieces of a detector cost, for ``search.method=evolution``.
        crew: processes that store features, judge architectures and train finalists and, together,
            the final weights of a model that trains its features.
        started: ``time.monotonic()`` from which the minutes count; None is now.

    Raises:
        ConfigurationError: the fusion is neither a known name nor a file, there are options for
            a model that has none, the model cannot be calibrated as configured, or one process
            trains it and several were asked for.
    """
    if config.fusion not in FUSIONS and not Path(config.fusion).is_file():
        raise ConfigurationError(
            f"fusion is {', '.join(FUSIONS)} or a genotype's file; {config.fusion!r} is neither."
        )
    check_refits(config)  # before any search or training
    _check_crew(config, crew)
    if data is None and (products := products_of(config)):
        check_products(config, products, crew)
        return TrainResult(
            config.out, *train_products(config, products, train=train, measure=measure)
        )
    if data is None:
        with device_errors(find_device(config.device), remedy=LOWER):
            data = open_run(config, crew=crew, started=started)
            result = train(data.config, data=data, measure=measure)
        # An interrupted run keeps them, and reads them when it is resumed.
        data.remove_stored()
        remove_folds(config)
        if config.defects is not None:
            let_defects_choose(config, data)
        say(read_contract(config.out / "model").alarm_rule.promise)
        return result
    if find_model(config.model).pools is None:
        cross = cross_scores(data, train=train)
        minutes = train_baseline(data, seconds=training_seconds(data), cross=cross)
        return TrainResult(config.out, None, minutes, math.nan)
    if config.options:
        raise ConfigurationError(
            f"{config.model} has no options; its settings are those of the run. Remove "
            f"{', '.join(sorted(config.options))} from options."
        )
    if trains_features(find_model(config.model)):
        check_rows(data.crew, data.loader("final"), micro=config.accumulate)
    fusion = fusion_of(config, data, measure)
    fusion, module, validation_ap = trained(compared(fusion, data), data)
    genotype = fusion if isinstance(fusion, Genotype) else None
    return TrainResult(
        config.out,
        genotype,
        finish(fusion, module.detector, validation_ap, data, steps=module.steps),
        validation_ap,
    )


def _check_crew(config: DetectionConfig, crew: Crew) -> None:
    """Refuse several processes for a model that has no work for them, and one GPU for all."""
    model = find_model(config.model)
    if model.pools is None and is_several(crew):
        raise ConfigurationError(
            f"{config.model} is fitted in steps of its own, in one process; leave out --workers "
            "and --ray. Models with work for several: "
            f"{', '.join(m.name for m in models('detector') if m.pools is not None)}."
        )
    if trains_features(model):
        check_device(crew, config.device)
