"""Search the fusion of a classifier by evolution, judged with shared weights."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch.utils.data import DataLoader

from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.fusion_search.fixed_fusion import (
    finalist_name,
    network_of_all,
    train_finalist,
    write_genotype,
)
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.training.one_shot import ClassOneShotTraining, judge_classes
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.one_shot import OneShotFusion
from chiasm.runs.console import say
from chiasm.runs.evolution_round import SHARED_SHARE, Contest, check_budgets, hold
from chiasm.runs.model_folder import library_versions
from chiasm.training.trainer import Budget, fit


def evolve_fusion(data: DiagnosisDataModule) -> Genotype:
    """Search a fusion on the training recordings; the validation recordings judge.

    The weights of all architectures are trained together, each step along one of them. Evolution
    and the final round rank by ``validation_score``; the hand-made concatenation competes to the
    end. Costs are not measured for recordings.

    Writes ``pareto.json``, ``finalists.json`` and the genotype with its drawing to the run's
    folder.

    Raises:
        ConfigurationError: the settings have a budget of milliseconds or megabytes.
    """
    config, settings = data.config, data.config.search
    check_budgets(
        settings,
        measured=False,
        remedy="those of recordings are not measured yet. Leave the budgets out.",
    )
    seconds = math.inf if config.minutes is None else 60 * config.minutes * settings.share
    deadline = time.monotonic() + seconds
    network = network_of_all(data, "one_shot")
    fusion = cast(OneShotFusion, network.fusion)
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
        train=lambda genotype, number, epochs: train_finalist(
            replace(data, fusion=genotype), number, epochs=epochs, relaxed=network
        ),
        discard=lambda _, number: shutil.rmtree(
            config.out / "checkpoints" / finalist_name(number), ignore_errors=True
        ),
        steps_per_epoch=len(data.loader("classify")),
        metric="validation_score",
    )
    outcome = hold(
        contest,
        settings,
        folder=config.out,
        seed=config.seed,
        seconds=deadline - time.monotonic(),
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
