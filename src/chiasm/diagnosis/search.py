"""Search how to fuse the features of recordings: the same space and rounds as for parts."""

from __future__ import annotations

import inspect
import json
import math
import time
from dataclasses import replace
from typing import cast

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import GIVEN, DiagnosisDataModule, group_kind, open_run
from chiasm.diagnosis.fusion_search.evolution import MeasureCosts, evolve_fusion
from chiasm.diagnosis.fusion_search.fixed_fusion import (
    FinalistTrainer,
    by_score,
    network_of_all,
    write_genotype,
)
from chiasm.diagnosis.readers.splits import RecordingSplit, split_recordings
from chiasm.diagnosis.training.search import ClassSearch
from chiasm.errors import ConfigurationError
from chiasm.fusion.finalists import propose, random_architecture
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.registry import find_model, searched_models
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.final_round import RoundResult, each, final_round
from chiasm.runs.model_folder import GENOTYPE, library_versions
from chiasm.training.device import device_errors, find_device
from chiasm.training.trainer import LOWER, Budget, fit

RELAXED_SHARE = 0.5  # of the search's budget; the rest is the final round


def _searched() -> str:
    return " or ".join(model.name for model in searched_models("classifier"))


def search(
    config: DiagnosisConfig, *, measure: MeasureCosts | None = None, crew: Crew = ALONE
) -> Genotype:
    """Search the fusion of a model in a run's folder; a training can continue from it.

    Args:
        config: of the run.
        measure: measures what pieces of a classifier cost, for ``search.method=evolution``.
        crew: processes that judge architectures and train finalists.

    Raises:
        ConfigurationError: the model has no fusion to search, or the folder holds a run with
            other settings.
    """
    if not has_fusion(config.model):
        raise ConfigurationError(f"{config.model} has no fusion to search; choose {_searched()}.")
    with device_errors(find_device(config.device), remedy=LOWER):
        return search_fusion(open_run(config, crew=crew), measure=measure)


def with_fusion(
    data: DiagnosisDataModule, *, measure: MeasureCosts | None = None
) -> DiagnosisDataModule:
    """Return the data with the fusion chosen: searched, unless the settings name one.

    Data of a model without a fusion are returned unchanged. A finished search of this run is not
    repeated; its share of the minutes is reserved either way.

    Raises:
        ConfigurationError: the settings name a fusion, or how to search it, for a model without.
        GenotypeError: the named file cannot be read, or does not fit the model.
    """
    config = data.config
    if not has_fusion(config.model):
        if {"fusion", "search"} & config.overrides().keys():
            raise ConfigurationError(
                f"{config.model} has no fusion to choose; leave 'fusion' and 'search' out, or "
                f"train {_searched()}."
            )
        return data
    form = config.fusion or "search"
    fusion: Genotype | str
    if form in ("search", "best"):
        path = config.out / GENOTYPE
        fusion = Genotype.load(path) if path.exists() else search_fusion(data, measure=measure)
        if config.minutes is not None:
            minutes = (1 - config.search.share) * config.minutes
            config = config.model_copy(update={"minutes": minutes})
    elif form == "concatenation":
        fusion = form
    else:
        pools = cast(FusionSupernet, network_of_all(data, "supernet").fusion).pools
        if form == "random":
            options = {k: v for k, v in config.options.items() if k in ("nodes", "operations")}
            fusion = random_architecture(pools, seed=config.seed, **options)
        else:
            fusion = Genotype.load(form)
            fusion.validate(pools)
        write_genotype(fusion, config)
    return replace(data, config=config, fusion=fusion)


def has_fusion(model: str) -> bool:
    """Return whether a classifier's fusion can be chosen."""
    return "fusion" in inspect.signature(find_model(model).builder).parameters


def search_fusion(data: DiagnosisDataModule, *, measure: MeasureCosts | None = None) -> Genotype:
    """Search the fusion on the training recordings.

    Every finalist reads all sensors, so that it still has an input if one is absent. The weights
    are trained on some sessions, the architecture on others. Finalists start with the relaxed
    network's weights and are trained for equally many steps. The relaxed network's best epoch and
    the best finalist are chosen on the validation recordings: by macro-F1 (with modality dropout,
    its mean over all modalities and each one alone), then by cross-entropy. The test recordings
    have no part in it. By evolution, see ``evolve_fusion``; ``fusion=best`` takes the knee of its
    trade-offs.

    Writes ``genotype.json`` and its drawing, ``search_history.json`` and ``finalists.json`` to the
    run's folder.
    """
    config, settings = data.config, data.config.search
    at_knee = config.fusion == "best"
    if settings.evolves:
        return evolve_fusion(data, measure=measure, at_knee=at_knee)
    if at_knee:
        raise ConfigurationError(
            "fusion=best takes the knee of the trade-offs that an evolution finds; set "
            "search.method=evolution, or leave fusion out."
        )
    minutes = None if config.minutes is None else config.minutes * settings.share
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    relaxed_share = RELAXED_SHARE if settings.finalists > 1 else 1.0
    module = _search_relaxed(data, None if minutes is None else minutes * relaxed_share)
    history = json.dumps(module.best.history, indent=2) + "\n"
    (config.out / "search_history.json").write_text(history)
    finalists = propose(
        module.supernet,
        best=module.best.genotype,
        count=settings.finalists,
        seed=config.seed,
    )
    result = RoundResult(0, {"validation_loss": -module.best.value}, 0, 1)
    if len(finalists) > 1:
        steps = len(data.loader("classify"))
        result = final_round(
            finalists,
            folder=config.out,
            epochs=max(settings.final_epochs, math.ceil(settings.final_steps / steps)),
            steps_per_epoch=steps,
            train=FinalistTrainer(data.alone(), module.network),
            rank=each(by_score),
            crew=data.crew,
            seconds=deadline - time.monotonic(),
        )
    genotype = replace(
        finalists[result.winner].pruned(),
        provenance={
            "model": config.model,
            "data": data.store.name,
            "seed": config.seed,
            "order": settings.order,
            "finalists": result.compared,
            "steps": result.steps,
            **{n: round(value, 5) for n, value in result.figures.items() if math.isfinite(value)},
            "chiasm": library_versions()["chiasm"],
        },
    )
    write_genotype(genotype, config)
    say(genotype.summary())
    return genotype


def _search_relaxed(data: DiagnosisDataModule, minutes: float | None) -> ClassSearch:
    config, settings = data.config, data.config.search
    parts = split_recordings(
        data.split.train,
        by=group_kind(GIVEN, data.split.train),
        shares=(1 - settings.held_out, settings.held_out, 0),
        seed=config.seed,
    )
    training = replace(data, split=RecordingSplit(parts.train, data.split.validation, ()))
    held_out = replace(data, split=RecordingSplit(parts.validation, (), ()))
    budget = Budget(minutes)
    module = ClassSearch(
        network_of_all(data, "supernet"),
        architecture_batches=held_out.loader("classify"),
        budget=budget,
        epochs=settings.epochs,
        learning_rate=config.learning_rate,
        architecture_rate=settings.rate,
        order=settings.order,
        warm_up=settings.warm_up,
        modality_dropout=config.modality_dropout,
        seed=config.seed,
    )
    say("Searching how to fuse ...")
    fit(
        module,
        training.loader("classify"),
        training.loader("classify_check"),
        folder=config.out,
        name="search",
        epochs=settings.epochs,
        budget=budget,
        precision="32",
    )
    return module
