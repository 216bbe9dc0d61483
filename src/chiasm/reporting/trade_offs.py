"""Trade-offs between accuracy and cost that a search found, read from its ``pareto.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.errors import DataError, GenotypeError
from chiasm.fusion.genotype import SCHEMA, VERSIONS, Genotype
from chiasm.fusion.pareto import fronts

METRICS = {  # in words
    "validation_ap": "pixel AP on validation parts",
    "validation_score": "macro-F1 on validation recordings",
}
UNITS = {"milliseconds": "ms", "megabytes": "MB"}  # of the costs


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture with its figures; NaN is what is not known.

    Attributes:
        genotype: without pools and provenance.
        figure: the metric after its own training; of one that was judged alone, with the weights
            that all share.
        shared: the metric with these weights.
        milliseconds, megabytes: of the exported model.
        steps: of its own training; 0 without any.
    """

    genotype: Genotype
    figure: float
    shared: float
    milliseconds: float
    megabytes: float
    steps: int = 0

    @property
    def reads(self) -> dict[str, list[str]]:
        """The features that it reads, by sensor."""
        sensors: dict[str, list[str]] = {}
        inputs = (i for cell in self.genotype.cells.values() for i in cell.inputs)
        for name in dict.fromkeys(inputs):
            if name in self.genotype.required:
                sensor, _, feature = name.partition("/")
                sensors.setdefault(sensor, []).append(feature)
        return sensors

    @property
    def words(self) -> str:
        """What it is made of: ``"early cell, join of 5"``."""
        cells = self.genotype.cells.items()
        return ", ".join(
            f"join of {len(cell.inputs)}" if cell.joins else f"{name} cell" for name, cell in cells
        )


@dataclass(frozen=True, slots=True)
class TradeOffs:
    """What a search found.

    Attributes:
        metric: name of the figure, larger is better.
        finalists: architectures that were trained by themselves, the fastest first.
        judged: all architectures.
        chosen: number of the finalist that the search chose.
        budgets: cost to its limit; without those that have none.
        measured: how the costs were measured, in words; empty where they were not.
    """

    metric: str
    finalists: tuple[Architecture, ...]
    judged: tuple[Architecture, ...]
    chosen: int
    budgets: Mapping[str, float]
    measured: str

    @property
    def metric_words(self) -> str:
        """The metric in words."""
        return METRICS.get(self.metric, self.metric.replace("_", " "))

    @property
    def hand_made(self) -> Architecture:
        """The hand-made concatenation: of all that were judged it joins the most in one cell."""

        def joined(architecture: Architecture) -> int:
            cells = list(architecture.genotype.cells.values())
            return len(cells[0].inputs) if len(cells) == 1 and cells[0].joins else 0

        return max(self.judged, key=joined)

    @property
    def refused(self) -> int:
        """The number of architectures that were not judged, because they are beyond the budgets."""
        return sum(math.isnan(architecture.figure) for architecture in self.judged)

    def number_of(self, genotype: Genotype | None) -> int | None:
        """Return the number of the finalist that has a genotype's cells; None if there is none."""
        cells = None if genotype is None else genotype.cells
        numbers = (n for n, a in enumerate(self.finalists) if a.genotype.cells == cells)
        return next(numbers, None)

    def front(self, cost: str) -> list[int]:
        """Return the finalists that no other beats in the metric and a cost, the cheapest first."""
        points = [(-a.figure, getattr(a, cost)) for a in self.finalists]
        known = [n for n, point in enumerate(points) if np.isfinite(point).all()]
        if not known:
            return []
        best = [n for n, f in zip(known, fronts([points[n] for n in known])) if f == 0]
        return sorted(best, key=lambda n: points[n][1])


def rows(trade_offs: TradeOffs, *, used: int | None) -> list[dict[str, str]]:
    """Return the finalists as texts: number, fusion, reads, figure, ms, MB, steps, marks.

    Args:
        trade_offs: of a search.
        used: number of the finalist to mark as chosen, if any.
    """
    by_hand = trade_offs.number_of(trade_offs.hand_made.genotype)
    return [
        {
            "number": str(number + 1),
            "fusion": finalist.words,
            "reads": "; ".join(f"{m}: {', '.join(names)}" for m, names in finalist.reads.items()),
            "figure": _shown(finalist.figure, 3),
            "ms": _shown(finalist.milliseconds, 1),
            "MB": _shown(finalist.megabytes, 1),
            "steps": str(finalist.steps),
            "marks": ", ".join(
                mark
                for mark, other in (("chosen", used), ("hand-made", by_hand))
                if number == other
            ),
        }
        for number, finalist in enumerate(trade_offs.finalists)
    ]


def remarks(trade_offs: TradeOffs, *, used: int | None) -> list[str]:
    """Return sentences on what the figures mean, and on what they leave out.

    Args:
        trade_offs: of a search.
        used: number of the finalist that the model has; None if it has another fusion.
    """
    judged = len(trade_offs.judged) - trade_offs.refused
    sentences = [
        f"The search judged {judged} architectures by {trade_offs.metric_words}, with weights that "
        f"all share, and trained {len(trade_offs.finalists)} of them by themselves: the finalists. "
        "A figure with shared weights is to be compared with others of its kind alone. A finalist "
        "of fewer steps fell behind in an earlier comparison. A join lays maps side by side and "
        "mixes them; another cell fuses two of them by operations that were searched."
    ]
    if trade_offs.measured:
        sentences.append(
            "What an architecture costs is the sum of its pieces, each measured on the machine of "
            f"the search ({trade_offs.measured})."
        )
    if trade_offs.budgets:
        limits = " and ".join(f"{v:g} {UNITS[name]}" for name, v in trade_offs.budgets.items())
        sentence = f"The budget was {limits}; {trade_offs.refused} architectures exceeded it."
        by_hand = trade_offs.hand_made
        if math.isnan(by_hand.figure):
            sentence += (
                " The hand-made concatenation is one of them: it takes "
                f"{by_hand.milliseconds:.1f} ms and {by_hand.megabytes:.1f} MB."
            )
        sentences.append(sentence)
    if used is None:
        sentences.append("The model of this page has none of these fusions.")
    elif used != trade_offs.chosen:
        sentences.append(
            f"The search chose finalist {trade_offs.chosen + 1}; the model of this page has the "
            f"fusion of finalist {used + 1}."
        )
    return sentences


def _shown(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "\N{EN DASH}"


def read_trade_offs(path: Path) -> TradeOffs | None:
    """Read the file of a search; None if there is no such file.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != "chiasm.pareto" or content["version"] != 1:
            raise ValueError(f"it is {content['schema']} of version {content['version']}")
        metric = str(content["metric"])
        judged = [_architecture(row, row, metric) for row in content["judged"]]
        finalists = [_architecture(row, row["judged"], metric) for row in content["finalists"]]
        if not judged:
            raise ValueError("no architecture was judged")
        chosen = finalists[content["chosen"]]
        finalists.sort(key=lambda a: math.inf if math.isnan(a.milliseconds) else a.milliseconds)
        return TradeOffs(
            metric=metric,
            finalists=tuple(finalists),
            judged=tuple(judged),
            chosen=finalists.index(chosen),
            budgets={k: float(v) for k, v in content["budgets"].items() if v is not None},
            measured=_measured(content["costs"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _unreadable(path, f"{error!r}.") from error
    except GenotypeError as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} does not hold trade-offs that this version reads: {reason} Search again in "
        "another folder, or delete the file to go without them."
    )


def _architecture(row: Mapping[str, Any], shared: Mapping[str, Any], metric: str) -> Architecture:
    own = row.get(metric, math.nan)  # without it there was no time to train it
    return Architecture(
        genotype=_genotype(row["cells"]),
        figure=float(own),
        shared=float(shared[metric]),
        milliseconds=float(shared.get("milliseconds", math.nan)),
        megabytes=float(shared.get("megabytes", math.nan)),
        steps=int(row.get("steps", 0)),
    )


def _genotype(cells: Mapping[str, Any]) -> Genotype:
    names: Sequence[str] = list(cells)
    content = {"schema": SCHEMA, "version": VERSIONS[-1], "output": names[-1], "cells": cells}
    return Genotype.from_json(json.dumps(content), where="an architecture")


def _measured(costs: Mapping[str, Any] | None) -> str:
    if costs is None:
        return ""
    threads = costs["threads"]
    return f"{costs['runtime']}, {threads} thread{'' if threads == 1 else 's'}"
