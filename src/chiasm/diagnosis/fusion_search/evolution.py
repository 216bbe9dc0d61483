"""Search the fusion of a classifier by evolution, judged with shared weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch.utils.data import DataLoader

from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.fusion_search.fixed_fusion import (
    FinalistTrainer,
    network_of_all,
    write_genotype,
)
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.training.one_shot import ClassOneShotTraining, judge_classes
from chiasm.fusion.costs import PieceCosts
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.one_shot import OneShotFusion
from chiasm.runs.console import say
from chiasm.runs.evolution_round import SHARED_SHARE, Contest, check_budgets, hold
from chiasm.runs.model_folder import library_versions
from chiasm.training.trainer import Budget, fit

MeasureCosts = Callable[[FusedClassifier, DiagnosisDataModule], PieceCosts]


def evolve_fusion(
    data: DiagnosisDataModule, *, measure: MeasureCosts | None = None, at_knee: bool = False
) -> Genotype:
    """Search a fusion on the training recordings; the validation recordings judge.

    The weights of all architectures are trained together, each step along one of them. Evolution
    and the final round rank by ``validation_score``; the hand-made concatenation competes to the
    end. The settings' budgets bound the cost.

    Writes ``pareto.json``, ``finalists.json`` and the genotype with its drawing to the run's
    folder.

    Args:
        data: of the run.
        measure: measures what pieces cost on this machine; None leaves costs out.
        at_knee: take the trade-off after which more cost gains little, instead of the best score.

    Raises:
        ConfigurationError: no architecture fits the budgets, or there are budgets and no costs.
    """
    config, settings = data.config, data.config.search
    check_budgets(settings, measured=measure is not None, at_knee=at_knee)
    seconds = math.inf if config.minutes is None else 60 * config.minutes * settings.share
    deadline = time.monotonic() + seconds
    network = network_of_all(data, "one_shot")
    fusion = cast(OneShotFusion, network.fusion)
    costs = None if measure is None else measure(network, data)
    space = FusionSpace(fusion.pools, fusion.nodes, fusion.names)
    budget = Budget(None if math.isinf(seconds) else SHARED_SHARE * seconds / 60)
    module = ClassOneShotTraining(
        network,
        space=space,
        budget=budget,
        epochs=settings.epochs,
        learning_rate=config.learning_rate,
        modality_dropout=config.modality_dropout,
        seed=config.seed,
    )
    say("Training the weights of all architectures ...")
    fit(
        module,
        data.loader("classify"),
        data.loader("classify_check"),
        folder=config.out,
        name="search",
        epochs=settings.epochs,
        budget=budget,
        precision="32",
        gradient_clip=1.0,
    )
    network.eval()
    contest = Contest(
        space=space,
        judge=partial(
            _judge, network, batches=data.loader("classify_check"), dropout=config.modality_dropout
        ),
        train=FinalistTrainer(data.alone(), network),
        steps_per_epoch=len(data.loader("classify")),
        metric="validation_score",
        costs=costs,
    )
    outcome = hold(
        contest,
        settings,
        folder=config.out,
        seed=config.seed,
        seconds=deadline - time.monotonic(),
        at_knee=at_knee,
        crew=data.crew,
    )
    facts = {"model": config.model, "data": data.store.name, "seed": config.seed}
    versions = {"chiasm": library_versions()["chiasm"]}
    genotype = replace(outcome.genotype, provenance={**facts, **outcome.provenance(), **versions})
    write_genotype(genotype, config)
    say(genotype.summary())
    return genotype


def _judge(
    network: FusedClassifier, genotype: Genotype, *, batches: DataLoader[Any], dropout: float
) -> dict[str, float]:
    return judge_classes(network, genotype, batches, alone=dropout > 0)
