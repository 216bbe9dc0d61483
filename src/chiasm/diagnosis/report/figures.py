"""All figures of a classifier's evaluation, in the one schema of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.tree import DecisionTreeClassifier

from chiasm.diagnosis.report.embedding import modality_gap
from chiasm.diagnosis.report.scored import Array, Labels, ScoredRecordings
from chiasm.errors import DataError
from chiasm.metrics.bootstrap import (
    auroc_interval,
    bootstrap_interval,
    bootstrap_weights,
    percentile_interval,
)
from chiasm.metrics.calibration import brier, equal_mass_calibration_error, softmax
from chiasm.metrics.classification import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    macro_f1,
    macro_f1_draws,
    one_vs_rest_auroc,
)
from chiasm.metrics.open_set import (
    energy_score,
    fpr_at_tpr,
    knn_score,
    max_softmax_score,
)
from chiasm.metrics.ranking import auroc
from chiasm.reporting.figure import Figure, figure

RANDOM = "random"

ABSENT = {"image": "picture absent", "series": "series absent"}


def evaluate_recordings(
    scored: ScoredRecordings,
    *,
    by: str,
    cost: Mapping[str, Any],
    splits: Mapping[str, ScoredRecordings] | None = None,
    missing: Mapping[str, ScoredRecordings] | None = None,
    corruptions: Mapping[str, ScoredRecordings] | None = None,
    open_set: Sequence[LeftOut] = (),
    trivial: Mapping[str, TrivialRival] | None = None,
    simulated: bool = False,
    not_judged: int = 0,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute every figure, with 95 % intervals by bootstrap over whole groups.

    Args:
        scored: the test list.
        by: kind of group that the test list shares with no other list (``"session"``,
            ``"equipment"`` ...), or ``"random"``.
        cost: of training and prediction.
        splits: name to the test list of another split, of a model trained for it; ``"random"``
            is what gaps are measured to. One by the name ``by`` is passed over: the report's
            figures are those of ``scored``.
        missing: further lists with a modality absent, by their name. What one modality alone says
            is taken from ``scored.modality_logits``.
        corruptions: name to the same recordings, corrupted.
        open_set: one for each class that was left out of training.
        trivial: what needs no model, by name.
        simulated: the recordings are made up.
        not_judged: recordings that could not be read.
        draws, seed: of the bootstrap.

    Returns:
        Groups ``recording``, ``calibration`` (before temperature), ``kinds``, ``confusion``,
        ``splits``, ``missing``, ``corruptions``, ``open_set``, ``gap``, ``trivial``, ``cost``,
        ``counts``.

    Raises:
        DataError: a trivial rival has not one number for each recording.
    """
    drawn = Drawn(draws=draws, seed=seed)
    lists = {by: scored} | {name: one for name, one in (splits or {}).items() if name != by}
    figures = {name: recording_figures(one, by=name, drawn=drawn) for name, one in lists.items()}
    confusion = _confusion(scored)
    absent = {**_alone(scored), **(missing or {})}

    def f1_of(one: ScoredRecordings) -> Figure:
        return f1_figure(one, one.guesses, by=by, drawn=drawn)

    return {
        "schema": "chiasm.metrics",
        "version": 1,
        "wing": "classifier",
        "split": by,
        "simulated": simulated,
        "recording": figures[by],
        "calibration": _before_temperature(scored, by, drawn),
        "kinds": _kinds(scored, confusion, by, drawn),
        "confusion": confusion.tolist(),
        "splits": _side_by_side(lists, figures),
        "missing": {name: f1_of(one) for name, one in absent.items()},
        "corruptions": {name: f1_of(one) for name, one in (corruptions or {}).items()},
        "open_set": {
            case.kind: open_set_figures(case, by=by, draws=draws, seed=seed) for case in open_set
        },
        "gap": {"before": _gap(scored.before, seed), "after": _gap(scored.after, seed)},
        "trivial": {
            name: _rival(name, rival, scored, by, drawn) for name, rival in (trivial or {}).items()
        },
        "cost": dict(cost),
        "counts": {
            "judged": len(scored),
            "groups": len(set(scored.group_names(by))),
            "by_kind": {k: int(n) for k, n in zip(scored.kinds, confusion.sum(axis=1))},
            "not_judged": not_judged,
            "lacking": {name: number for name, number in scored.lacking.items() if number},
        },
    }


@dataclass(frozen=True, slots=True)
class Drawn:
    """How the bootstrap draws: ``draws`` times, from ``seed``."""

    draws: int = 200
    seed: int = 0

    def weights(self, scored: ScoredRecordings, by: str) -> NDArray[np.int64]:
        """How often each recording comes in each draw, ``(draws, N)``; groups come as a whole.

        Groups of each class are drawn apart, so that every class occurs, where a group has one
        class; drawing each mixture apart would leave next to nothing to draw.
        """
        groups = scored.group_names(by)
        pure = len(set(zip(groups, scored.labels.tolist()))) == len(set(groups))
        return bootstrap_weights(
            len(scored),
            groups=groups,
            stratify=scored.labels if pure else None,
            draws=self.draws,
            seed=self.seed,
        )

    def figure(
        self,
        fn: Callable[[Any, Any], float],
        values: NDArray[Any],
        scored: ScoredRecordings,
        by: str,
    ) -> Figure:
        """A figure of values ``(N, ...)`` and labels, with its interval."""
        labels, every = scored.labels, np.arange(len(scored))
        drawn = []
        for counts in self.weights(scored, by):
            chosen = np.repeat(every, counts)
            drawn.append(fn(values[chosen], labels[chosen]))
        return figure(fn(values, labels), percentile_interval(drawn))


def recording_figures(
    scored: ScoredRecordings, *, by: str, drawn: Drawn | None = None
) -> dict[str, Figure]:
    """Macro-F1, accuracy, balanced accuracy, one-vs-rest AUROC, ECE and Brier of a list.

    Means over classes are over those that the list holds.
    """
    if not len(scored):
        names = ("macro_f1", "accuracy", "balanced_accuracy", "auroc", "ece", "brier")
        return {name: figure(math.nan) for name in names}
    drawn = drawn or Drawn()
    guesses, chances, classes = scored.guesses, scored.probabilities, len(scored.kinds)

    def balanced(guessed: Any, truth: Any) -> float:
        return balanced_accuracy(truth, guessed, classes)

    return {
        "macro_f1": f1_figure(scored, guesses, by=by, drawn=drawn),
        "accuracy": drawn.figure(lambda g, truth: accuracy(truth, g), guesses, scored, by),
        "balanced_accuracy": drawn.figure(balanced, guesses, scored, by),
        "auroc": drawn.figure(_mean_auroc, chances, scored, by),
        "ece": drawn.figure(equal_mass_calibration_error, chances, scored, by),
        "brier": drawn.figure(brier, chances, scored, by),
    }


def f1_figure(scored: ScoredRecordings, guesses: Labels, *, by: str, drawn: Drawn) -> Figure:
    """Macro-F1 of some guesses with its interval; unknown where there is no recording."""
    if not len(scored):
        return figure(math.nan)
    labels, classes = scored.labels, len(scored.kinds)
    every = macro_f1_draws(labels, guesses, classes, drawn.weights(scored, by))
    return figure(macro_f1(labels, guesses, classes), percentile_interval(every))


def _mean_auroc(chances: Any, truth: Any) -> float:
    """Mean over the classes that have one."""
    found = one_vs_rest_auroc(chances, truth)
    return math.nan if np.isnan(found).all() else float(np.nanmean(found))


def _before_temperature(scored: ScoredRecordings, by: str, drawn: Drawn) -> dict[str, Any]:
    named: dict[str, Any] = {"ece": equal_mass_calibration_error, "brier": brier}
    found: dict[str, Any] = {"temperature": round(scored.temperature, 5)}
    if not len(scored):
        return found | {name: figure(math.nan) for name in named}
    plain = softmax(scored.logits)
    return found | {name: drawn.figure(fn, plain, scored, by) for name, fn in named.items()}


def _confusion(scored: ScoredRecordings) -> NDArray[np.int64]:
    classes = len(scored.kinds)
    if not len(scored):
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(scored.labels, scored.guesses, classes)


def _kinds(
    scored: ScoredRecordings, confusion: NDArray[np.int64], by: str, drawn: Drawn
) -> dict[str, Any]:
    """Precision, recall and F1 of each class."""
    exact, classes = class_scores(confusion), len(scored.kinds)
    cells = scored.labels * classes + scored.guesses
    draws = []
    for counts in drawn.weights(scored, by) if len(scored) else ():
        table = np.bincount(cells, counts, minlength=classes**2)
        draws.append(class_scores(table.reshape(classes, classes)))
    found: dict[str, Any] = {}
    for number, kind in enumerate(scored.kinds):
        found[kind] = {"count": int(exact.support[number])}
        for name in ("precision", "recall", "f1"):
            spread = percentile_interval([getattr(one, name)[number] for one in draws])
            found[kind][name] = figure(float(getattr(exact, name)[number]), spread)
    return found


def _side_by_side(
    lists: Mapping[str, ScoredRecordings], figures: Mapping[str, Mapping[str, Figure]]
) -> dict[str, Any]:
    """The same figures of each split, and by how much the random one flatters."""
    flattering = figures.get(RANDOM, {}).get("macro_f1", figure(math.nan))["value"]
    found: dict[str, Any] = {}
    for name, one in lists.items():
        own = figures[name]["macro_f1"]["value"]
        known = name != RANDOM and own is not None and flattering is not None
        found[name] = {
            "recording": dict(figures[name]),
            "recordings": len(one),
            "groups": len(set(one.group_names(name))),
            "gap": round(flattering - own, 5) if known else None,
        }
    return found


def _alone(scored: ScoredRecordings) -> dict[str, ScoredRecordings]:
    """What is said without the picture is what the series alone says, and the other way round.

    Recordings that have no such modality (NaN) are left out.
    """
    other = {"image": "series", "series": "image"}
    found = {}
    for absent, words in ABSENT.items():
        logits = scored.modality_logits.get(other[absent])
        if len(scored.modality_logits) > 1 and logits is not None:
            kept = np.isfinite(logits).all(axis=1)
            groups = {name: np.asarray(one)[kept] for name, one in scored.groups.items()}
            found[words] = ScoredRecordings(
                logits[kept], scored.labels[kept], scored.kinds, groups=groups
            )
    return found


def _gap(clouds: Mapping[str, NDArray[Any]], seed: int) -> dict[str, float | None] | None:
    if not {"image", "series"} <= set(clouds):
        return None
    image, series = (_known(clouds[name]) for name in ("image", "series"))
    if min(len(image), len(series)) < 2:
        return None
    measured = modality_gap(image, series, seed=seed)
    return {k: None if math.isnan(v) else round(v, 5) for k, v in measured.items()}


def _known(points: NDArray[Any]) -> NDArray[Any]:
    """The rows of recordings that have the modality."""
    return points[np.isfinite(points).all(axis=1)]


def _rival(
    name: str, rival: TrivialRival, scored: ScoredRecordings, by: str, drawn: Drawn
) -> Figure:
    if len(rival.test) != len(scored):
        raise DataError(f"{name}: {len(rival.test)} numbers for {len(scored)} recordings.")
    if not len(scored):
        return figure(math.nan)
    return f1_figure(scored, trivial_guesses(rival), by=by, drawn=drawn)


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
            fpr_at_tpr,
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
            "fpr95": figure(fpr_at_tpr(scores, unseen), spread),
        }
    return found


def _scores(case: LeftOut) -> dict[str, NDArray[Any]]:
    """Each score over the known and then the unknown recordings; larger is less known."""
    known, unknown = case.known, case.unknown
    logits = np.concatenate([known.logits, unknown.logits])
    scores = {"max-softmax": max_softmax_score(logits), "energy": energy_score(logits)}
    reference, embeddings = case.reference, (known.embeddings, unknown.embeddings)
    if reference is not None and len(reference) and all(e is not None for e in embeddings):
        near = min(NEIGHBOURS, len(reference))
        both = np.concatenate([e for e in embeddings if e is not None])
        scores["kNN"] = knn_score(both, reference, neighbours=near)
    if known.flow_nll is not None and unknown.flow_nll is not None:
        scores["flow density"] = np.concatenate([known.flow_nll, unknown.flow_nll])
    return scores


_INTERVALS_A_CLASS = 3


@dataclass(frozen=True, slots=True, eq=False)
class TrivialRival:
    """One number a recording.

    Attributes:
        train: ``(M,)`` of the training recordings.
        train_labels: ``(M,)`` their classes.
        test: ``(N,)`` of the recordings that are judged, in their order.
    """

    train: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float64]


def trivial_guesses(rival: TrivialRival) -> NDArray[np.int64]:
    """Guess classes ``(N,)`` by thresholds on one number, at most three intervals a class.

    Raises:
        DataError: lengths differ or there is nothing to learn from.

    Example:
        >>> rival = TrivialRival(np.r_[1.0, 1.1, 5.0, 5.1], np.r_[0, 0, 1, 1], np.r_[0.0, 9.0])
        >>> trivial_guesses(rival).tolist()
        [0, 1]
    """
    train, labels = _column(rival.train), np.asarray(rival.train_labels)
    if not len(train) or len(train) != len(labels):
        raise DataError(
            f"{len(train)} numbers and {len(labels)} labels of training recordings were given; "
            "one each, and at least one, was expected."
        )
    leaves = max(2, _INTERVALS_A_CLASS * len(np.unique(labels)))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=leaves,
        min_samples_leaf=max(1, len(train) // 100),
        class_weight="balanced",
        random_state=0,
    )
    tree.fit(train, labels)
    return np.asarray(tree.predict(_column(rival.test)), np.int64)


def _column(values: ArrayLike) -> NDArray[np.float64]:
    """``(N,)`` as ``(N, 1)``."""
    return np.asarray(values, np.float64).reshape(-1, 1)
