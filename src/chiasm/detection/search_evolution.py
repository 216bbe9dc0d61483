"""Search a fusion by evolution: shared weights judge, costs are counted, a final round decides."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.train_fusion import (
    budget_of,
    finalist_name,
    train_finalist,
    write_genotype,
)
from chiasm.detection.training.one_shot import ArchitectureJudge, OneShotTraining
from chiasm.errors import ConfigurationError
from chiasm.fusion.costs import Cost, PieceCosts
from chiasm.fusion.evolution import FusionSpace, Judged, evolve
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.fusion.pareto import best_first, fronts, knee
from chiasm.metrics.ranking import nan_loses
from chiasm.runs.console import say
from chiasm.runs.final_round import Rank, final_round
from chiasm.runs.model_folder import library_versions
from chiasm.training.progress import Progress
from chiasm.training.trainer import fit

PARETO: Final = "pareto.json"
AP, MILLISECONDS, MEGABYTES = "validation_ap", "milliseconds", "megabytes"
SHARED_SHARE, EVOLUTION_SHARE = 0.3, 0.3  # of the search's budget; the rest is the final round

MeasureCosts = Callable[[AdnasDetector, DetectionDataModule], PieceCosts]


@dataclass(frozen=True, slots=True)
class Budgets:
    """What an architecture may cost at most; None sets no limit."""

    milliseconds: float | None = None
    megabytes: float | None = None

    def excess(self, cost: Cost) -> float:
        """Return by how much a cost exceeds the budgets, as shares of them; 0 within both."""
        pairs = ((cost.milliseconds, self.milliseconds), (cost.megabytes, self.megabytes))
        return sum(max(0.0, spent / most - 1) for spent, most in pairs if most is not None)


def evolve_fusion(
    config: DetectionConfig,
    data: DetectionDataModule,
    *,
    measure: MeasureCosts | None,
    at_knee: bool,
) -> Genotype:
    """Search a fusion among trade-offs between validation AP and cost.

    The weights of all architectures are trained together, each step along one of them. Evolution
    looks for architectures with a high validation AP, the mean over the kinds of anomalies, at a
    low cost. Finalists are spread along the front; the hand-made concatenation is one of them. They
    are trained for equally many steps, and the better half of the trade-offs for as many again.

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
    settings = config.search
    budgets = Budgets(settings.budget_ms, settings.budget_mb)
    if measure is None and (settings.budget_ms or settings.budget_mb or at_knee):
        raise ConfigurationError(
            "A budget of milliseconds or megabytes needs measured costs; search by chiasm.search "
            "or 'chiasm search'."
        )
    left = settings.share * data.seconds_left()
    deadline = time.monotonic() + left
    detector = data.detector("one_shot")
    costs = None if measure is None else measure(detector, data)
    groups = _groups(detector, data)
    space = FusionSpace(data.pools, config.nodes, config.operations, groups)
    _train_shared(detector, data, space, seconds=SHARED_SHARE * left)
    judged = _evolve(
        config,
        space,
        judge=ArchitectureJudge(
            detector, batches=data.loader("validate"), families=data.kinds("validate")
        ),
        price=_price(data, costs),
        budgets=budgets,
        deadline=time.monotonic() + EVOLUTION_SHARE * left,
    )
    finalists = _finalists(judged, config.search.finalists, budgets=budgets, space=space)
    price = _price(data, costs)
    steps = len(data.loader("train"))

    def train(genotype: Genotype, number: int, epochs: int) -> dict[str, float]:
        figures = train_finalist(genotype, data, number, epochs=epochs, relaxed=detector)
        return figures | _figures(price(genotype))

    result = final_round(
        finalists,
        record=config.out / "finalists.json",
        epochs=max(settings.final_epochs, math.ceil(settings.final_steps / steps)),
        steps_per_epoch=steps,
        train=train,
        rank=_rank(at_knee=at_knee),
        discard=lambda _, number: shutil.rmtree(
            config.out / "checkpoints" / finalist_name(number), ignore_errors=True
        ),
        seconds=deadline - time.monotonic(),
    )
    rows = [
        _row(genotype, judged, result.last.get(number, {}))
        for number, genotype in enumerate(finalists)
    ]
    winner = finalists[result.winner]
    content = {
        "schema": "chiasm.pareto",
        "version": 1,
        "costs": None if costs is None else costs.to_json(),
        "budgets": {MILLISECONDS: budgets.milliseconds, MEGABYTES: budgets.megabytes},
        "chosen": result.winner,
        "finalists": rows,
        "judged": [
            {**item.figures, "cells": json.loads(item.genotype.to_json())["cells"]}
            for item in judged
        ],
    }
    (config.out / PARETO).write_text(json.dumps(content, indent=1) + "\n")
    genotype = replace(
        winner,
        provenance={
            "model": config.model,
            "data": data.source.name,
            "seed": config.seed,
            "method": "evolution",
            "judged": len(judged),
            "finalists": result.compared,
            "steps": result.steps,
            **{n: round(v, 5) for n, v in result.figures.items() if math.isfinite(v)},
            "chiasm": library_versions()["chiasm"],
        },
    )
    write_genotype(genotype, data)
    if winner.cells == concatenation(space.pools).cells:
        say(f"The hand-made concatenation did best of {result.compared} architectures.")
    say(genotype.summary())
    return genotype


def _train_shared(
    detector: AdnasDetector, data: DetectionDataModule, space: FusionSpace, *, seconds: float
) -> None:
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


def _groups(detector: AdnasDetector, data: DetectionDataModule) -> list[frozenset[str]]:
    """Return maps that share a source of evidence, by what each single map needs."""
    groups: dict[tuple[str, ...], set[str]] = {}
    for name in data.pools.maps():
        units = tuple(sorted(detector.source.units(frozenset({name}))))
        groups.setdefault(units, set()).add(name)
    return [frozenset(names) for names in groups.values()]


def _price(
    data: DetectionDataModule, costs: PieceCosts | None
) -> Callable[[Genotype], Cost | None]:
    if costs is None:
        return lambda genotype: None
    known = costs
    return lambda genotype: known.of(genotype, maps=data.pools.maps(genotype.required))


def _figures(cost: Cost | None) -> dict[str, float]:
    if cost is None:
        return {}
    return {MILLISECONDS: round(cost.milliseconds, 3), MEGABYTES: round(cost.megabytes, 3)}


def _evolve(
    config: DetectionConfig,
    space: FusionSpace,
    *,
    judge: Callable[[Genotype], Mapping[str, float]],
    price: Callable[[Genotype], Cost | None],
    budgets: Budgets,
    deadline: float,
) -> list[Judged]:
    settings = config.search

    def figures_of(genotype: Genotype) -> tuple[dict[str, float], tuple[float, ...]]:
        cost = price(genotype)
        excess = 0.0 if cost is None else budgets.excess(cost)
        if excess > 0:
            # Beyond the budgets only the excess counts, and nothing is computed (Deb, 2002).
            return {AP: math.nan, **_figures(cost)}, (1 + excess, *([1e9] * 2 if cost else []))
        figures = {**judge(genotype), **_figures(cost)}
        return figures, (-nan_loses(figures[AP]), *_costs(figures))

    planned = settings.population * (settings.generations + 1)
    say(f"Evolution of {settings.generations} generations of {settings.population} ...")
    with Progress("Evolving", planned, unit="architectures") as progress:
        return evolve(
            space,
            figures_of,
            population=settings.population,
            generations=settings.generations,
            seed=config.seed,
            progress=lambda *_: progress.update(1),
            keep_going=lambda: time.monotonic() < deadline,
        )


def _costs(figures: Mapping[str, float]) -> list[float]:
    return [figures[name] for name in (MILLISECONDS, MEGABYTES) if name in figures]


def _finalists(
    judged: Sequence[Judged], count: int, *, budgets: Budgets, space: FusionSpace
) -> list[Genotype]:
    """Return the best trade-offs, of which no two read the same, and the hand-made concatenation.

    Raises:
        ConfigurationError: no architecture is within the budgets.
    """
    feasible = [item for item in judged if math.isfinite(item.figures[AP])]
    if not feasible:
        cheapest = min(judged, key=lambda item: item.objectives)
        raise ConfigurationError(
            f"None of {len(judged)} architectures is within the budgets of "
            f"{budgets.milliseconds} ms and {budgets.megabytes} MB; the nearest takes "
            f"{cheapest.figures[MILLISECONDS]:.1f} ms and {cheapest.figures[MEGABYTES]:.1f} MB. "
            "Raise --budget-ms or --budget-mb."
        )
    best = max(feasible, key=lambda item: item.figures[AP])
    made_by_hand = concatenation(space.pools).cells
    hand_made = [item for item in feasible if item.genotype.cells == made_by_hand]
    chosen: list[Genotype] = []
    for item in (best, *hand_made, *feasible):
        if len(chosen) < max(count, 1 + len(hand_made)) and all(
            item.genotype.cells != other.cells
            and (item.genotype.required != other.required or item in hand_made)
            for other in chosen
        ):
            chosen.append(item.genotype)
    return chosen


def _rank(*, at_knee: bool) -> Rank:
    """Rank by the validation AP; or by trade-off, the knee first."""

    def by_trade_off(rows: Sequence[Mapping[str, float]]) -> list[tuple[float, ...]]:
        if not rows:
            return []
        points = [(-nan_loses(row[AP]), *_costs(row)) for row in rows]
        place = {number: -float(position) for position, number in enumerate(best_first(points))}
        first = knee([row[AP] for row in rows], [row[MILLISECONDS] for row in rows])
        return [(float(number == first), place[number]) for number in range(len(rows))]

    def by_ap(rows: Sequence[Mapping[str, float]]) -> list[tuple[float, ...]]:
        return [(row[AP],) for row in rows]

    return by_trade_off if at_knee else by_ap


def _row(
    genotype: Genotype, judged: Iterable[Judged], figures: Mapping[str, float]
) -> dict[str, Any]:
    shared = next(item.figures for item in judged if item.genotype.cells == genotype.cells)
    return {
        **figures,
        "judged": dict(shared),
        "cells": json.loads(genotype.to_json())["cells"],
    }


def front_of(rows: Sequence[Mapping[str, float]]) -> list[int]:
    """Return the numbers of the finalists that no other of as many steps dominates."""
    numbers = [n for n, row in enumerate(rows) if AP in row]
    points = [(-nan_loses(rows[n][AP]), *_costs(rows[n])) for n in numbers]
    return [n for n, front in zip(numbers, fronts(points)) if front == 0] if numbers else []
