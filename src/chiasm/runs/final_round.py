"""The final round of a search: finalists are compared after equally many steps, the field halved.

References:
    Jamieson, Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016 (successive halving).
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from chiasm.fusion.genotype import Genotype
from chiasm.metrics.ranking import nan_loses
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew

F = TypeVar("F", bound=Genotype | str)
F_co = TypeVar("F_co", bound=Genotype | str, covariant=True)
Rank = Callable[[Sequence[Mapping[str, float]]], Sequence[tuple[float, ...]]]
STEPS = "steps"  # key of a record: steps of the weights that were made


@dataclass(frozen=True, slots=True)
class FinalistTraining(Generic[F_co]):
    """What is trained: a finalist, its number, and the epochs in all."""

    fusion: F_co
    number: int
    epochs: int

    @property
    def name(self) -> str:
        """Name of its stage, for checkpoints and logs."""
        return f"finalist_{self.number + 1}"


@dataclass(frozen=True, slots=True)
class RoundResult:
    """Result of a final round.

    Attributes:
        winner: number of the best finalist.
        figures: of the winner, by name; empty where there was no time to train any.
        steps: after which it was compared for the last time; 0 without a comparison.
        compared: finalists that were compared at least once.
        last: number of each of these to its figures when it was compared for the last time, the
            steps among them.
    """

    winner: int
    figures: Mapping[str, float]
    steps: int
    compared: int
    last: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


def rung_lengths(count: int, epochs: int) -> list[int]:
    """Return the epochs after which finalists are compared, the better half each time going on.

    The last comparison, of two finalists, comes after ``epochs``, each earlier one at half of the
    next, after at least one epoch.

    Example:
        >>> rung_lengths(8, 12)
        [3, 6, 12]
        >>> rung_lengths(8, 1)
        [1]
    """
    comparisons = max(1, math.ceil(math.log2(count)))
    return sorted({math.ceil(epochs / 2**later) for later in range(comparisons)})


def epochs_in_all(count: int, epochs: int) -> int:
    """Return the epochs that all finalists of a final round are trained together.

    Example:
        >>> epochs_in_all(8, 4)  # 8 finalists for one, 4 for one more, 2 for two more
        16
    """
    return _epochs_of_rungs(count, rung_lengths(count, epochs))


def final_round(
    finalists: Sequence[F],
    *,
    folder: Path,
    epochs: int,
    steps_per_epoch: int,
    train: Callable[[FinalistTraining[F]], dict[str, float]],
    rank: Rank,
    crew: Crew = ALONE,
    reference: int | None = None,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> RoundResult:
    """Train finalists in rungs of ``rung_lengths``; the better half of a rung goes on to the next.

    All finalists of a rung are trained for equally many steps. Seconds decide how many finalists
    and rungs there are, by the time that the first ones took, never how long a finalist is trained;
    without any seconds the first one wins. A finalist that made other steps than its rung asks for
    loses, as does one whose figure is NaN.

    Args:
        finalists: genotypes, or names of fusions made by hand; the most promising one first.
        folder: of the run. ``finalists.json`` gets a row per finalist and rung: cells, steps made,
            figures; a row whose steps are those of the rung is not trained again. The checkpoints
            of a finalist that is trained no more are removed.
        epochs: that the last two finalists are trained.
        steps_per_epoch: of the weights, the same for all.
        train: trains a finalist on from where it stopped; returns its figures by name, and the
            steps made in all as ``"steps"``.
        rank: of the figures of all finalists of a rung, larger is better; see ``each``.
        crew: computes the trainings of a rung.
        reference: number of a finalist that is compared in every rung, in place of the last of the
            better half; None for none.
        seconds: for the whole round; infinite without a budget.
        clock: returns seconds.
    """
    rows = _Records(folder / "finalists.json")
    lengths = rung_lengths(len(finalists), epochs)
    deadline = clock() + seconds
    left = list(range(len(finalists)))
    last: dict[int, Mapping[str, float]] = {}
    result = RoundResult(0, {}, 0, 0)
    pace = _Pace(crew.size)
    each_epoch: dict[int, float] = {}  # seconds
    for rung, length in enumerate(lengths if seconds > 0 else ()):
        steps, more = length * steps_per_epoch, length - (lengths[rung - 1] if rung else 0)
        figures = {n: row for n in left if (row := rows.find(finalists[n], steps))}
        waiting = [n for n in left if n not in figures]
        if crew.size > 1:  # the slowest begin, so that all processes end at about the same time
            waiting.sort(key=lambda n: -each_epoch.get(n, 0.0))
        if rung and pace.known and pace.seconds(len(waiting) * more) > deadline - clock():
            say(f"No time is left to train {len(waiting)} finalists for {steps} steps.")
            break

        def begun(
            numbers: Sequence[int], rung: int, length: int, finished: int
        ) -> Iterator[FinalistTraining[F]]:
            """Yield the trainings of a rung, those of the first one as long as there is time."""
            for started, number in enumerate(numbers, finished):
                if not rung and pace.known:
                    count = _how_many(
                        len(finalists), lengths, started, pace.seconds(1), deadline - clock()
                    )
                    if started >= count:
                        say(f"There is time for {started} of {len(finalists)} finalists.")
                        return
                steps = length * steps_per_epoch
                say(f"Final round, {number + 1} of {len(finalists)}, {steps} steps ...")
                yield FinalistTraining(finalists[number], number, length)

        trainings = begun(waiting, rung, length, len(figures))
        timed = _Timed(train, clock)
        for training, (row, seconds) in crew.compute(timed, trainings):
            figures[training.number] = row
            rows.add(training.fusion, row)
            pace.add(more, seconds)
            each_epoch[training.number] = seconds / more
            if crew.size > 1:  # by itself, a training says its figures as it goes
                shown = ", ".join(
                    f"{name.replace('_', ' ')} {value:.3f}"
                    for name, value in row.items()
                    if name != STEPS
                )
                say(f"Finalist {training.number + 1}: {shown}.")
        # Stable: of equals, the more promising one comes first.
        complete = [n for n in sorted(figures) if figures[n][STEPS] == steps]
        keys = dict(zip(complete, rank([figures[n] for n in complete])))
        order = sorted(sorted(figures), key=lambda n: _key(keys.get(n)), reverse=True)
        best = {name: value for name, value in figures[order[0]].items() if name != STEPS}
        last |= figures
        result = RoundResult(order[0], best, steps, max(result.compared, len(order)), dict(last))
        better = order[: math.ceil(len(order) / 2)]
        if reference in order and reference not in better:
            better = [*better[: max(1, len(better) - 1)], reference]
        better.sort()
        for number in set(left) - set(better):
            _remove_checkpoints(folder, number)
        left = better
        if len(left) < 2:
            break
    for number in left:
        _remove_checkpoints(folder, number)
    return result


@dataclass(slots=True)
class _Pace:
    """How long trainings take, ``size`` at a time."""

    size: int
    spent: float = 0.0
    epochs: int = 0

    @property
    def known(self) -> bool:
        return self.epochs > 0

    def add(self, epochs: int, seconds: float) -> None:
        self.spent, self.epochs = self.spent + seconds, self.epochs + epochs

    def seconds(self, epochs: int) -> float:
        return epochs * self.spent / self.epochs / self.size


@dataclass(frozen=True, slots=True)
class _Timed:
    """A training that returns its seconds as well."""

    train: Callable[[Any], dict[str, float]]
    clock: Callable[[], float]

    def __call__(self, training: Any) -> tuple[dict[str, float], float]:
        began = self.clock()
        row = self.train(training)
        return row, self.clock() - began


def each(key: Callable[[Mapping[str, float]], tuple[float, ...]]) -> Rank:
    """Rank each finalist by its own figures, whatever those of the others."""
    return lambda rows: [key(row) for row in rows]


def _remove_checkpoints(folder: Path, number: int) -> None:
    name = FinalistTraining("", number, 0).name
    shutil.rmtree(folder / "checkpoints" / name, ignore_errors=True)


def _key(rank: tuple[float, ...] | None) -> tuple[float, ...]:
    """Return what a finalist is sorted by; one that made other steps than asked is the last."""
    return (-math.inf,) if rank is None else tuple(nan_loses(value) for value in rank)


def _how_many(count: int, lengths: Sequence[int], done: int, pace: float, seconds: float) -> int:
    """Return how many of ``count`` finalists fit in the seconds that are left.

    That is the largest number for which all rungs fit, or else the first rung alone.

    Args:
        count: of finalists.
        lengths: of the rungs, in epochs.
        done: finalists that have finished the first rung.
        pace: seconds an epoch.
        seconds: left.
    """
    for number in range(count, 1, -1):
        epochs = _epochs_of_rungs(number, lengths) - min(done, number) * lengths[0]
        if epochs * pace <= seconds:
            return number
    return (
        sum(number * lengths[0] * pace <= seconds for number in range(1, count - done + 1)) + done
    )


def _epochs_of_rungs(field: int, lengths: Sequence[int]) -> int:
    """Return the epochs of all rungs together, of which the first has ``field`` finalists."""
    epochs = field * lengths[0]
    for shorter, longer in pairwise(lengths):
        field = math.ceil(field / 2)
        epochs += field * (longer - shorter) if field > 1 else 0
    return epochs


class _Records:
    """Rows of the file of finished finalists."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def find(self, fusion: Genotype | str, steps: int) -> dict[str, float] | None:
        """Return the figures of a fusion after exactly these steps."""
        identity = {"cells": _cells(fusion), STEPS: steps}
        for row in self.rows:
            if row.items() >= identity.items():
                return {name: float(value) for name, value in row.items() if name != "cells"}
        return None

    def add(self, fusion: Genotype | str, figures: Mapping[str, float]) -> None:
        """Write a row."""
        self.rows.append({"cells": _cells(fusion), **figures})
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.rows, indent=2) + "\n")
        part.replace(self.path)


def _cells(fusion: Genotype | str) -> Any:
    return fusion if isinstance(fusion, str) else json.loads(fusion.to_json())["cells"]
