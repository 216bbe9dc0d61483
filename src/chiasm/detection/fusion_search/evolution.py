"""Search the fusion of a detector by evolution among trade-offs of validation AP and cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.fixed_fusion import (
    FinalistTrainer,
    budget_of,
    write_genotype,
)
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.one_shot import ArchitectureJudge, OneShotTraining
from chiasm.fusion.costs import PieceCosts
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import Genotype
from chiasm.runs.console import say
from chiasm.runs.evolution_round import SHARED_SHARE, Contest, check_budgets, hold
from chiasm.runs.model_folder import library_versions
from chiasm.training.trainer import fit

MeasureCosts = Callable[[AdnasDetector, DetectionDataModule], PieceCosts]


def evolve_fusion(
    config: DetectionConfig,
    data: DetectionDataModule,
    *,
    measure: MeasureCosts | None,
    at_knee: bool,
) -> Genotype:
    """Search a fusion among trade-offs between validation AP and cost.

    The weights of all architectures are trained together, each step along one of them; then they
    judge architectures by their mean AP over the kinds of held-out anomalies, see ``hold``.

    Writes ``pareto.json``, ``finalists.json``, and the genotype with its drawing to the run's
    folder.

    Args:
        config: of the run; its budgets bound the cost.
        data: of the run.
        measure: measures what pieces cost on this machine; None leaves costs out.
        at_knee: take the trade-off after which more cost gains little, instead of the highest AP.

    Raises:
        ConfigurationError: no architecture fits the budgets, or there are budgets and no costs.
    """
    check_budgets(config.search, measured=measure is not None, at_knee=at_knee)
    deadline = time.monotonic() + config.search.share * data.seconds_left()
    detector = data.detector("one_shot")
    costs = None if measure is None else measure(detector, data)
    space = FusionSpace(
        data.pools, config.nodes, config.operations, evidence_groups(detector, data)
    )
    train_shared(detector, data, space, seconds=SHARED_SHARE * (deadline - time.monotonic()))
    contest = Contest(
        space=space,
        judge=ArchitectureJudge(
            detector, batches=data.loader("validate"), families=data.kinds("validate")
        ),
        train=FinalistTrainer(data.alone(), detector),
        steps_per_epoch=len(data.loader("train")),
        metric="validation_ap",
        costs=costs,
    )
    outcome = hold(
        contest,
        config.search,
        folder=config.out,
        seed=config.seed,
        seconds=deadline - time.monotonic(),
        at_knee=at_knee,
        crew=data.crew,
    )
    facts = {"model": config.model, "data": data.source.name, "seed": config.seed}
    versions = {"chiasm": library_versions()["chiasm"]}
    genotype = replace(outcome.genotype, provenance={**facts, **outcome.provenance(), **versions})
    write_genotype(genotype, data)
    say(genotype.summary())
    return genotype


def train_shared(
    detector: AdnasDetector, data: DetectionDataModule, space: FusionSpace, *, seconds: float
) -> None:
    """Train the weights of all architectures of a detector with a ``OneShotFusion``, in place."""
    config = data.config
    budget = budget_of(seconds)
    module = OneShotTraining(
        detector,
        space=space,
        seed=config.seed,
        budget=budget,
        epochs=config.search.epochs,
        **config.optimisation,
    )
    say("Training the weights of all architectures ...")
    fit(
        module,
        data.loader("train"),
        data.loader("validate"),
        folder=config.out,
        name="search",
        epochs=config.search.epochs,
        budget=budget,
        precision=config.precision,
    )


def evidence_groups(detector: AdnasDetector, data: DetectionDataModule) -> list[frozenset[str]]:
    """Return maps that share a source of evidence, by what each single map needs."""
    groups: dict[tuple[str, ...], set[str]] = {}
    for name in data.pools.maps():
        units = tuple(sorted(detector.source.units(frozenset({name}))))
        groups.setdefault(units, set()).add(name)
    return [frozenset(names) for names in groups.values()]
