"""Would a class that was never learnt be noticed?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.evaluation.diagnosis.scored import Array, ScoredRecordings
from chiasm.metrics.bootstrap import auroc_interval, bootstrap_interval
from chiasm.metrics.open_set import (
    false_alarms_at_recall,
    unlike_energy,
    unlike_max_softmax,
    unlike_neighbours,
)
from chiasm.metrics.ranking import auroc
from chiasm.reporting.figure import Figure, figure

NEIGHBOURS = 10


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """What a model that never saw one class says about known recordings and about that class.

    Attributes:
        kind: the class that was left out of training.
        known: test recordings of the classes that were learnt.
        unknown: recordings of the left-out class; their labels are not looked at.
        reference: ``(M, D)`` joint embeddings of training recordings, or None.
    """

    kind: str
    known: ScoredRecordings
    unknown: ScoredRecordings
    reference: Array | None = None


def open_set_figures(
    case: LeftOut, *, by: str, draws: int, seed: int
) -> dict[str, dict[str, Figure]]:
    """AUROC and FPR95 of each score that the recordings allow; {} where one side is empty.

    Intervals draw whole groups of kind ``by``, sessions or single recordings where there are
    none.
    """
    sides = (case.known, case.unknown)
    if not all(len(side) for side in sides):
        return {}
    unseen = np.repeat([0, 1], [len(side) for side in sides])
    # A group of the left-out class is never one of the known classes.
    groups = [f"{n} {g}" for n, side in enumerate(sides) for g in side.group_names(by)]
    found = {}
    for name, scores in _scores(case).items():
        spread = bootstrap_interval(
            false_alarms_at_recall,
            scores,
            unseen,
            groups=groups,
            stratify=unseen,
            draws=draws,
            seed=seed,
        )
        area = auroc_interval(scores, unseen, groups=groups, draws=draws, seed=seed)
        found[name] = {
            "auroc": figure(auroc(scores, unseen), area),
            "fpr95": figure(false_alarms_at_recall(scores, unseen), spread),
        }
    return found


def _scores(case: LeftOut) -> dict[str, NDArray[Any]]:
    """Each score over the known and then the unknown recordings; larger is less known."""
    known, unknown = case.known, case.unknown
    logits = np.concatenate([known.logits, unknown.logits])
    scores = {"max-softmax": unlike_max_softmax(logits), "energy": unlike_energy(logits)}
    reference, embeddings = case.reference, (known.embeddings, unknown.embeddings)
    if reference is not None and len(reference) and all(e is not None for e in embeddings):
        near = min(NEIGHBOURS, len(reference))
        both = np.concatenate([e for e in embeddings if e is not None])
        scores["kNN"] = unlike_neighbours(both, reference, neighbours=near)
    if known.flow_nll is not None and unknown.flow_nll is not None:
        scores["flow density"] = np.concatenate([known.flow_nll, unknown.flow_nll])
    return scores
