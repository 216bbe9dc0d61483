"""Search an architecture by evolution: shared weights judge, costs are counted, a round decides.

Both wings give what is theirs as functions; what they share is here.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chiasm.errors import ConfigurationError
from chiasm.fusion.costs import Cost, PieceCosts
from chiasm.fusion.evolution import FusionSpace, Judged, evolve, made_by_hand
from chiasm.fusion.genotype import CellGenotype, Genotype, concatenation
from chiasm.fusion.pareto import best_first, knee
from chiasm.metrics.ranking import nan_loses
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.final_round import FinalistTraining, Rank, RoundResult, final_round
from chiasm.settings import SearchSettings
from chiasm.training.progress import Progress

PARETO: Final = "pareto.json"
EVOLVED: Final = "evolved.json"  # what was judged, for a run that is resumed
MILLISECONDS, MEGABYTES = "milliseconds", "megabytes"
SHARED_SHARE, EVOLUTION_SHARE = 0.3, 0.3  # of the search's seconds; the rest is the final round
_BEYOND = 1e9  # objective of what is not computed, because it is beyond the budgets


@dataclass(frozen=True, slots=True)
class Budgets:
    """What an architecture may cost at most; None sets no limit."""

    milliseconds: float | None = None
    megabytes: float | None = None

    def excess(self, cost: Cost) -> float:
        """Return by how much a cost exceeds the budgets, as shares of them; 0 within both."""
        pairs = ((cost.milliseconds, self.milliseconds), (cost.megabytes, self.megabytes))
        return sum(max(0.0, spent / most - 1) for spent, most in pairs if most is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """What a wing gives to its evolution.

    Attributes:
        space: of the architectures.
        judge: returns figures of an architecture with shared weights, ``metric`` among them.
        train: trains a finalist on; returns figures, the steps made in all among them.
        steps_per_epoch: of a finalist.
        metric: name of the figure that is to be large.
        costs: of the pieces of the exported model; None leaves costs out.
    """

    space: FusionSpace
    judge: Callable[[Genotype], Mapping[str, float]]
    train: Callable[[FinalistTraining[Genotype]], dict[str, float]]
    steps_per_epoch: int
    metric: str
    costs: PieceCosts | None = None

    def price(self, genotype: Genotype) -> Cost | None:
        """Return what an architecture costs; None where costs are left out."""
        if self.costs is None:
            return None
        return self.costs.of(genotype, maps=self.space.pools.maps(genotype.required))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What won, after which comparison, of how many architectures that were judged."""

    genotype: Genotype
    round: RoundResult
    judged: int

    def provenance(self) -> dict[str, Any]:
        """Return the facts of the search, for the genotype's file."""
        figures = {n: round(v, 5) for n, v in self.round.figures.items() if math.isfinite(v)}
        counts = {"finalists": self.round.compared, "steps": self.round.steps}
        return {"method": "evolution", "judged": self.judged, **counts, **figures}


def check_budgets(settings: SearchSettings, *, measured: bool, at_knee: bool = False) -> Budgets:
    """Return the budgets; ``ConfigurationError`` where they need costs that are not measured."""
    if not measured and (settings.budget_ms or settings.budget_mb or at_knee):
        raise ConfigurationError(
            "A budget of milliseconds or megabytes needs measured costs; search by chiasm.search "
            "or 'chiasm search', which measure them."
        )
    return Budgets(settings.budget_ms, settings.budget_mb)


def hold(
    contest: Contest,
    settings: SearchSettings,
    *,
    folder: Path,
    seed: int,
    seconds: float,
    at_knee: bool = False,
    crew: Crew = ALONE,
) -> Outcome:
    """Let architectures evolve, and finalists of the best trade-offs compete.

    Evolution looks for a high metric at a low cost. Finalists are spread along the front; the
    first of ``made_by_hand`` that is within the budgets is one of them, and is compared to the end.
    They are trained for equally many steps, and the better half for as many again, and so on.

    Writes ``pareto.json`` and ``finalists.json``.

    Args:
        contest: of a wing, with trained shared weights.
        settings: of the search.
        folder: of the run.
        seed: of the draws.
        seconds: that are left of the search's budget; infinite without one.
        at_knee: take the trade-off after which more cost gains little, instead of the best metric.
        crew: judges architectures and trains finalists; it gets ``judge`` and ``train`` pickled.

    Raises:
        ConfigurationError: no architecture is within the budgets.
    """
    deadline = time.monotonic() + seconds
    budgets = check_budgets(settings, measured=contest.costs is not None, at_knee=at_knee)
    share = EVOLUTION_SHARE / (1 - SHARED_SHARE)
    # An interrupted run goes on with the same finalists: measured costs differ a little each time.
    record = folder / EVOLVED
    judged = _read(record) if record.exists() else []
    if not judged:
        deadline_of_evolution = time.monotonic() + share * seconds
        judged = _evolve(
            contest,
            settings,
            budgets=budgets,
            seed=seed,
            deadline=deadline_of_evolution,
            crew=crew,
        )
        _write(record, judged)
    finalists = _finalists(contest, judged, settings.finalists, budgets=budgets)

    steps = contest.steps_per_epoch
    result = final_round(
        finalists,
        folder=folder,
        epochs=max(settings.final_epochs, math.ceil(settings.final_steps / steps)),
        steps_per_epoch=steps,
        train=_Priced(contest.train, [_costs_of(genotype, judged) for genotype in finalists]),
        rank=_rank(contest.metric, at_knee=at_knee),
        crew=crew,
        reference=None if at_knee else _number(finalists, _by_hand(contest, budgets)),
        seconds=deadline - time.monotonic(),
    )
    winner = finalists[result.winner]
    content = {
        "schema": "chiasm.pareto",
        "version": 1,
        "metric": contest.metric,
        "costs": None if contest.costs is None else contest.costs.to_json(),
        "budgets": {MILLISECONDS: budgets.milliseconds, MEGABYTES: budgets.megabytes},
        "chosen": result.winner,
        "hand_made": _number(finalists, concatenation(contest.space.pools).cells),
        "finalists": [
            _row(genotype, judged, result.last.get(number, {}))
            for number, genotype in enumerate(finalists)
        ],
        "judged": [{**item.figures, "cells": _cells(item.genotype)} for item in judged],
    }
    (folder / PARETO).write_text(json.dumps(content, indent=1) + "\n")
    if winner.cells == concatenation(contest.space.pools).cells:
        say(f"The hand-made concatenation did best of {result.compared} architectures.")
    return Outcome(winner, result, len(judged))


def _figures(cost: Cost | None) -> dict[str, float]:
    if cost is None:
        return {}
    return {MILLISECONDS: round(cost.milliseconds, 3), MEGABYTES: round(cost.megabytes, 3)}


def _costs(figures: Mapping[str, float]) -> list[float]:
    return [figures[name] for name in (MILLISECONDS, MEGABYTES) if name in figures]


def _evolve(
    contest: Contest,
    settings: SearchSettings,
    *,
    budgets: Budgets,
    seed: int,
    deadline: float,
    crew: Crew,
) -> list[Judged]:
    def judge(
        genotypes: Sequence[Genotype],
    ) -> Iterator[tuple[dict[str, float], tuple[float, ...]]]:
        costs = [contest.price(genotype) for genotype in genotypes]
        excesses = [0.0 if cost is None else budgets.excess(cost) for cost in costs]
        within = [g for g, excess in zip(genotypes, excesses) if excess == 0]
        computed = crew.in_order(contest.judge, within)
        for cost, excess in zip(costs, excesses):
            if excess > 0:
                # Beyond the budgets only the excess counts, and nothing is computed (Deb, 2002).
                yield {contest.metric: math.nan, **_figures(cost)}, (1 + excess, _BEYOND, _BEYOND)
                continue
            figures = {**next(computed)[1], **_figures(cost)}
            yield figures, (-nan_loses(figures[contest.metric]), *_costs(figures))

    planned = settings.population * (settings.generations + 1)
    say(f"Evolution of {settings.generations} generations of {settings.population} ...")
    with Progress("Evolving", planned, unit="architectures") as progress:
        return evolve(
            contest.space,
            judge,
            population=settings.population,
            generations=settings.generations,
            first=made_by_hand(contest.space, contest.costs),
            seed=seed,
            progress=lambda *_: progress.update(1),
            keep_going=lambda: time.monotonic() < deadline,
        )


def _finalists(
    contest: Contest, judged: Sequence[Judged], count: int, *, budgets: Budgets
) -> list[Genotype]:
    """Return the best trade-offs, of which no two read the same, and one that was made by hand.

    Raises:
        ConfigurationError: no architecture is within the budgets.
    """
    feasible = [item for item in judged if math.isfinite(item.figures[contest.metric])]
    if not feasible:
        nearest = min(judged, key=lambda item: item.objectives)
        limits = ((budgets.milliseconds, "ms"), (budgets.megabytes, "MB"))
        asked = " and ".join(f"{most:g} {unit}" for most, unit in limits if most is not None)
        costs = [item.figures[MILLISECONDS] for item in judged]
        raise ConfigurationError(
            f"None of {len(judged)} architectures is within {asked}; the nearest takes "
            f"{nearest.figures[MILLISECONDS]:.1f} ms and {nearest.figures[MEGABYTES]:.1f} MB, the "
            f"fastest {min(costs):.1f} ms. Raise --budget-ms or --budget-mb, or lower image_size "
            "or memory_entries."
        )
    best = max(feasible, key=lambda item: item.figures[contest.metric])
    by_hand = [item for item in feasible if item.genotype.cells == _by_hand(contest, budgets)]
    chosen: list[Genotype] = []
    for item in (best, *by_hand, *feasible):
        new = all(item.genotype.cells != other.cells for other in chosen)
        reads_more = all(item.genotype.required != other.required for other in chosen)
        if new and (reads_more or item in by_hand) and len(chosen) < max(count, 2):
            chosen.append(item.genotype)
    return chosen[: max(count, 1)]


def _by_hand(contest: Contest, budgets: Budgets) -> Mapping[str, CellGenotype] | None:
    """Return the cells of the first fusion made by hand that is within the budgets, if one is."""
    for genotype in made_by_hand(contest.space, contest.costs):
        cost = contest.price(genotype)
        if cost is None or budgets.excess(cost) == 0:
            return genotype.cells
    return None


def _number(finalists: Sequence[Genotype], cells: Mapping[str, CellGenotype] | None) -> int | None:
    """Return the number of the finalist that has some cells, if one has."""
    return next((n for n, genotype in enumerate(finalists) if genotype.cells == cells), None)


def _rank(metric: str, *, at_knee: bool) -> Rank:
    """Rank by the metric; or by trade-off, the knee first."""

    def by_trade_off(rows: Sequence[Mapping[str, float]]) -> list[tuple[float, ...]]:
        if not rows:
            return []
        points = [(-nan_loses(row[metric]), *_costs(row)) for row in rows]
        place = {number: -float(position) for position, number in enumerate(best_first(points))}
        first = knee([row[metric] for row in rows], [row[MILLISECONDS] for row in rows])
        return [(float(number == first), place[number]) for number in range(len(rows))]

    def by_metric(rows: Sequence[Mapping[str, float]]) -> list[tuple[float, ...]]:
        return [(row[metric],) for row in rows]

    return by_trade_off if at_knee else by_metric


def _cells(genotype: Genotype) -> Any:
    return json.loads(genotype.to_json())["cells"]


def _row(
    genotype: Genotype, judged: Iterable[Judged], figures: Mapping[str, float]
) -> dict[str, Any]:
    shared = dict(_figures_of(genotype, judged))
    return {**figures, "judged": shared, "cells": _cells(genotype)}


def _figures_of(genotype: Genotype, judged: Iterable[Judged]) -> dict[str, float]:
    return next(item.figures for item in judged if item.genotype.cells == genotype.cells)


def _costs_of(genotype: Genotype, judged: Iterable[Judged]) -> dict[str, float]:
    figures = _figures_of(genotype, judged)
    return {name: figures[name] for name in (MILLISECONDS, MEGABYTES) if name in figures}


@dataclass(frozen=True, slots=True)
class _Priced:
    """A training of finalists whose figures have the costs of each, by its number."""

    train: Callable[[FinalistTraining[Genotype]], dict[str, float]]
    costs: Sequence[Mapping[str, float]]

    def __call__(self, training: FinalistTraining[Genotype]) -> dict[str, float]:
        return {**self.train(training), **self.costs[training.number]}


def _write(path: Path, judged: Sequence[Judged]) -> None:
    """Keep what was judged; the file is whole or not there."""
    rows = [[item.genotype.to_json(), item.figures, item.objectives] for item in judged]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows) + "\n")
    part.replace(path)


def _read(path: Path) -> list[Judged]:
    return [
        Judged(Genotype.from_json(text, where=str(path)), figures, tuple(objectives))
        for text, figures, objectives in json.loads(path.read_text())
    ]
