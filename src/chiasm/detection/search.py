"""Search a fusion architecture: a differentiable search proposes, a final round decides."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.evolution import MeasureCosts, evolve_fusion
from chiasm.detection.fusion_search.fixed_fusion import (
    FinalistTrainer,
    budget_of,
    write_genotype,
)
from chiasm.detection.opening import open_run
from chiasm.detection.training.search import FusionSearch
from chiasm.fusion.finalists import propose
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.final_round import RoundResult, each, final_round
from chiasm.runs.model_folder import library_versions
from chiasm.training.device import device_errors, find_device
from chiasm.training.trainer import LOWER, Budget, fit

RELAXED_SHARE = 0.5  # of the search's budget; the rest is the final round

CONCATENATION: Final = "concatenation"  # name of the hand-made fusion


def search(
    config: DetectionConfig,
    *,
    data: DetectionDataModule | None = None,
    measure: MeasureCosts | None = None,
    crew: Crew = ALONE,
) -> Genotype:
    """Search the fusion architecture.

    The relaxed network is searched first, its weights and its architecture on different training
    parts. Its strongest architecture and others drawn from its choices are the finalists. All start
    with the relaxed network's weights and are trained for equally many steps, the better half for
    as many again, and so on; the one with the highest pixel AP on the held-out parts wins. With
    ``search.finalists=1`` the strongest is taken without a final round, as in the paper.

    Writes ``genotype.json`` and its drawing, ``search_history.json`` and ``finalists.json`` to the
    run's folder.

    Args:
        config: of the run.
        data: of the run; None opens them.
        measure: measures what pieces of a detector cost, for ``search.method=evolution``.
        crew: processes that store features, judge architectures and train finalists.

    Raises:
        ConfigurationError: the model has no fusion to search.
    """
    if data is None:
        with device_errors(find_device(config.device), remedy=LOWER):
            data = open_run(config, crew=crew)
            genotype = search(data.config, data=data, measure=measure)
        data.remove_stored()
        return genotype
    if data.seconds_left() <= 0 or not data.time_to_search:
        return _unsearched(data)
    if config.search.evolves:
        return evolve_fusion(config, data, measure=measure, at_knee=False)
    best = _best_fusion(config, data, hand_made=())
    assert isinstance(best, Genotype)
    return best


def search_or_concatenate(
    config: DetectionConfig, *, data: DetectionDataModule, measure: MeasureCosts | None = None
) -> Genotype | str:
    """Search as ``search`` does, with the hand-made concatenation among the finalists.

    By gradient, returns ``"concatenation"``, and writes no genotype, where that wins. Evolution
    takes the knee of the trade-offs between validation AP and cost.
    """
    if data.seconds_left() <= 0 or not data.time_to_search:
        return _unsearched(data)
    if config.search.evolves:
        return evolve_fusion(config, data, measure=measure, at_knee=True)
    return _best_fusion(config, data, hand_made=(CONCATENATION,))


def _unsearched(data: DetectionDataModule) -> Genotype:
    """Return the hand-made concatenation, where the minutes of the run have no time to search.

    It is not written as what a search found, so that more minutes search.
    """
    if not data.time_to_search:  # that was said when it was found
        return concatenation(data.pools)
    say(
        f"Warning: the {data.config.minutes:g} minutes were over before the search of the fusion "
        "began. The hand-made concatenation is taken; give more minutes to search."
    )
    return concatenation(data.pools)


def _best_fusion(
    config: DetectionConfig, data: DetectionDataModule, *, hand_made: Sequence[str]
) -> Genotype | str:
    left = config.search.share * data.seconds_left()
    deadline = time.monotonic() + left
    has_final_round = config.search.finalists > 1 or bool(hand_made)
    relaxed_share = RELAXED_SHARE if has_final_round else 1.0
    relaxed = _search_relaxed(config, data, budget_of(relaxed_share * left))
    (config.out / "search_history.json").write_text(
        json.dumps(relaxed.best.history, indent=2) + "\n"
    )
    finalists: list[Genotype | str] = [
        *propose(
            relaxed.supernet,
            best=relaxed.best.genotype,
            count=config.search.finalists,
            seed=config.seed,
        ),
        *hand_made,
    ]
    result = RoundResult(0, {"validation_ap": relaxed.best.value}, 0, 1)
    if len(finalists) > 1:
        steps = len(data.loader("train"))
        result = final_round(
            finalists,
            folder=config.out,
            epochs=max(config.search.final_epochs, math.ceil(config.search.final_steps / steps)),
            steps_per_epoch=steps,
            train=FinalistTrainer(data.alone(), relaxed.detector),
            rank=each(lambda figures: (figures["validation_ap"],)),
            crew=data.crew,
            seconds=deadline - time.monotonic(),
        )
    fusion = finalists[result.winner]
    if isinstance(fusion, str):
        say(f"The hand-made {fusion} did better than {len(finalists) - 1} searched architectures.")
        return fusion
    ap = result.figures.get("validation_ap", math.nan)
    genotype = replace(
        fusion,
        provenance={
            "model": config.model,
            "data": data.source.name,
            "seed": config.seed,
            "order": config.search.order,
            "finalists": result.compared,
            "steps": result.steps,
            **({"validation_ap": round(ap, 5)} if math.isfinite(ap) else {}),
            "chiasm": library_versions()["chiasm"],
        },
    )
    write_genotype(genotype, data)
    say(genotype.summary())
    return genotype


def _search_relaxed(
    config: DetectionConfig, data: DetectionDataModule, budget: Budget
) -> FusionSearch:
    module = FusionSearch(
        data.detector("supernet"),
        architecture_batches=data.loader("architecture"),
        budget=budget,
        epochs=config.search.epochs,
        architecture_rate=config.search.rate,
        order=config.search.order,
        warm_up=config.search.warm_up,
        **config.optimisation,
    )
    say("Searching the fusion ...")
    fit(
        module,
        data.loader("weights"),
        data.loader("validate"),
        folder=config.out,
        name="search",
        epochs=config.search.epochs,
        budget=budget,
        precision=config.precision,
    )
    return module
