"""All figures of a classifier's evaluation, in the schema of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.tree import DecisionTreeClassifier

from chiasm.diagnosis.report.embedding import modality_gap
from chiasm.diagnosis.report.schema import RecordingFigures
from chiasm.diagnosis.report.scored import Array, Labels, ScoredRecordings
from chiasm.errors import DataError
from chiasm.metrics.bootstrap import (
    auroc_interval,
    bootstrap_interval,
    bootstrap_weights,
    macro_f1_figure,
    percentile_interval,
)
from chiasm.metrics.calibration import brier, equal_mass_calibration_error, softmax
from chiasm.metrics.classification import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    macro_f1,
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
from chiasm.training.progress import working

RANDOM = "random"
ABSENT = {"image": "picture absent", "series": "series absent"}


@working("Computing figures and intervals")
def evaluate_recordings(
    scored: ScoredRecordings,
    *,
    by: str,
    cost: Mapping[str, Any],
    splits: Mapping[str, ScoredRecordings] | None = None,
    missing: Mapping[str, ScoredRecordings] | None = None,
    corruptions: Mapping[str, ScoredRecordings] | None = None,
    open_set: Sequence[OpenSetCase] = (),
    trivial: Mapping[str, TrivialBaseline] | None = None,
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
            is the reference of the gaps. The name ``by`` is ignored: the report's figures are
            those of ``scored``.
        missing: name to further lists with an absent modality. The figures of one modality alone
            come from ``scored.modality_logits``.
        corruptions: name to the same recordings, corrupted.
        open_set: one case for each class that was left out of training.
        trivial: name to a baseline without a model.
        simulated: whether the recordings were simulated.
        not_judged: recordings that could not be read.
        draws, seed: of the bootstrap.

    Returns:
        Groups ``recording``, ``calibration`` (before temperature), ``kinds``, ``confusion``,
        ``splits``, ``missing``, ``corruptions``, ``open_set``, ``unknown`` (None), ``gap``,
        ``trivial``, ``cost``, ``counts``.

    Raises:
        DataError: a trivial baseline has not one number for each recording.
    """
    bootstrap = Bootstrap(draws=draws, seed=seed)
    lists = {by: scored} | {name: split for name, split in (splits or {}).items() if name != by}
    figures = {
        name: recording_figures(split, by=name, bootstrap=bootstrap)
        for name, split in lists.items()
    }
    confusion = _confusion(scored)
    absent = {**_single_modalities(scored), **(missing or {})}

    def f1_of(recordings: ScoredRecordings) -> Figure:
        return f1_figure(recordings, recordings.guesses, by=by, bootstrap=bootstrap)

    return {
        "schema": "chiasm.metrics",
        "version": 2,
        "wing": "classifier",
        "split": by,
        "simulated": simulated,
        "recording": figures[by],
        "calibration": _before_temperature(scored, by, bootstrap),
        "kinds": _kinds(scored, confusion, by, bootstrap),
        "confusion": confusion.tolist(),
        "splits": _split_figures(lists, figures),
        "missing": {name: f1_of(recordings) for name, recordings in absent.items()},
        "corruptions": {name: f1_of(corrupted) for name, corrupted in (corruptions or {}).items()},
        "open_set": {
            case.kind: open_set_figures(case, by=by, draws=draws, seed=seed) for case in open_set
        },
        "unknown": None,  # an evaluation of a model adds it: it takes the model's decisions
        "gap": {"before": _gap(scored.before, seed), "after": _gap(scored.after, seed)},
        "trivial": {
            name: _trivial_figure(name, baseline, scored, by, bootstrap)
            for name, baseline in (trivial or {}).items()
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
class Bootstrap:
    """A bootstrap of whole groups with a number of draws and a seed."""

    draws: int = 200
    seed: int = 0

    def weights(self, scored: ScoredRecordings, by: str) -> NDArray[np.int64]:
        """Return the count of each recording in each draw, ``(draws, N)``; groups stay whole.

        If each group has one class, the draw is stratified by class, so that every class occurs.
        Strata of mixed groups would be too small.
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
        """Return the figure of values ``(N, ...)`` and labels, with its interval."""
        labels, indices = scored.labels, np.arange(len(scored))
        samples = []
        for counts in self.weights(scored, by):
            drawn = np.repeat(indices, counts)
            samples.append(fn(values[drawn], labels[drawn]))
        return figure(fn(values, labels), percentile_interval(samples))


def recording_figures(
    scored: ScoredRecordings, *, by: str, bootstrap: Bootstrap | None = None
) -> dict[str, Figure]:
    """Compute macro-F1, accuracy, balanced accuracy, one-vs-rest AUROC, ECE and Brier of a list.

    Means over classes are over those that the list holds.
    """
    if not len(scored):
        return {name: figure(math.nan) for name in RecordingFigures.rows()}
    bootstrap = bootstrap or Bootstrap()
    guesses, probabilities, classes = scored.guesses, scored.probabilities, len(scored.kinds)

    def balanced(predicted: Any, truth: Any) -> float:
        return balanced_accuracy(truth, predicted, classes)

    return {
        "macro_f1": f1_figure(scored, guesses, by=by, bootstrap=bootstrap),
        "accuracy": bootstrap.figure(
            lambda predicted, truth: accuracy(truth, predicted), guesses, scored, by
        ),
        "balanced_accuracy": bootstrap.figure(balanced, guesses, scored, by),
        "auroc": bootstrap.figure(_mean_auroc, probabilities, scored, by),
        "ece": bootstrap.figure(equal_mass_calibration_error, probabilities, scored, by),
        "brier": bootstrap.figure(brier, probabilities, scored, by),
    }


def f1_figure(
    scored: ScoredRecordings, guesses: Labels, *, by: str, bootstrap: Bootstrap
) -> Figure:
    """Compute the macro-F1 of guesses with its interval; unknown without recordings."""
    if not len(scored):
        return figure(math.nan)
    labels, classes = scored.labels, len(scored.kinds)
    values = macro_f1_figure(labels, guesses, classes).draws(bootstrap.weights(scored, by))
    return figure(macro_f1(labels, guesses, classes), percentile_interval(values))


def _mean_auroc(probabilities: Any, truth: Any) -> float:
    """Return the mean over the classes whose AUROC is defined."""
    by_class = one_vs_rest_auroc(probabilities, truth)
    return math.nan if np.isnan(by_class).all() else float(np.nanmean(by_class))


def _before_temperature(scored: ScoredRecordings, by: str, bootstrap: Bootstrap) -> dict[str, Any]:
    functions: dict[str, Any] = {"ece": equal_mass_calibration_error, "brier": brier}
    figures: dict[str, Any] = {"temperature": round(scored.temperature, 5)}
    if not len(scored):
        return figures | {name: figure(math.nan) for name in functions}
    plain = softmax(scored.logits)
    return figures | {
        name: bootstrap.figure(fn, plain, scored, by) for name, fn in functions.items()
    }


def _confusion(scored: ScoredRecordings) -> NDArray[np.int64]:
    classes = len(scored.kinds)
    if not len(scored):
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(scored.labels, scored.guesses, classes)


def _kinds(
    scored: ScoredRecordings, confusion: NDArray[np.int64], by: str, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Compute precision, recall and F1 of each class."""
    exact, classes = class_scores(confusion), len(scored.kinds)
    cells = scored.labels * classes + scored.guesses
    draws = []
    for counts in bootstrap.weights(scored, by) if len(scored) else ():
        table = np.bincount(cells, counts, minlength=classes**2)
        draws.append(class_scores(table.reshape(classes, classes)))
    figures: dict[str, Any] = {}
    for number, kind in enumerate(scored.kinds):
        figures[kind] = {"count": int(exact.support[number])}
        for name in ("precision", "recall", "f1"):
            interval = percentile_interval([getattr(scores, name)[number] for scores in draws])
            figures[kind][name] = figure(float(getattr(exact, name)[number]), interval)
    return figures


def _split_figures(
    lists: Mapping[str, ScoredRecordings], figures: Mapping[str, Mapping[str, Figure]]
) -> dict[str, Any]:
    """Return the figures of each split, with the gap to the random split."""
    random_f1 = figures.get(RANDOM, {}).get("macro_f1", figure(math.nan))["value"]
    splits: dict[str, Any] = {}
    for name, scored in lists.items():
        f1, gap = figures[name]["macro_f1"]["value"], None
        if name != RANDOM and f1 is not None and random_f1 is not None:
            gap = round(random_f1 - f1, 5)
        splits[name] = {
            "recording": dict(figures[name]),
            "recordings": len(scored),
            "groups": len(set(scored.group_names(name))),
            "gap": gap,
        }
    return splits


def _single_modalities(scored: ScoredRecordings) -> dict[str, ScoredRecordings]:
    """Return the recordings scored by one modality, by the words for the absent one.

    Recordings without the modality (NaN) are excluded.
    """
    other = {"image": "series", "series": "image"}
    lists = {}
    for absent, words in ABSENT.items():
        logits = scored.modality_logits.get(other[absent])
        if len(scored.modality_logits) > 1 and logits is not None:
            present = np.isfinite(logits).all(axis=1)
            groups = {by: np.asarray(names)[present] for by, names in scored.groups.items()}
            lists[words] = ScoredRecordings(
                logits[present], scored.labels[present], scored.kinds, groups=groups
            )
    return lists


def _gap(clouds: Mapping[str, NDArray[Any]], seed: int) -> dict[str, float | None] | None:
    if not {"image", "series"} <= set(clouds):
        return None
    image, series = (_finite_rows(clouds[name]) for name in ("image", "series"))
    if min(len(image), len(series)) < 2:
        return None
    gap = modality_gap(image, series, seed=seed)
    return {k: None if math.isnan(v) else round(v, 5) for k, v in gap.items()}


def _finite_rows(points: NDArray[Any]) -> NDArray[Any]:
    """Return the rows of the recordings that have the modality."""
    return points[np.isfinite(points).all(axis=1)]


def _trivial_figure(
    name: str, baseline: TrivialBaseline, scored: ScoredRecordings, by: str, bootstrap: Bootstrap
) -> Figure:
    if len(baseline.test) != len(scored):
        raise DataError(f"{name}: {len(baseline.test)} numbers for {len(scored)} recordings.")
    if not len(scored):
        return figure(math.nan)
    return f1_figure(scored, trivial_guesses(baseline), by=by, bootstrap=bootstrap)


NEIGHBOURS = 10


@dataclass(frozen=True, slots=True, eq=False)
class OpenSetCase:
    """The scores of a model trained without one class.

    Attributes:
        kind: the class that was left out of training.
        known: test recordings of the trained classes.
        unknown: recordings of the left-out class; their labels are ignored.
        reference: ``(M, D)`` joint embeddings of training recordings, or None.
    """

    kind: str
    known: ScoredRecordings
    unknown: ScoredRecordings
    reference: Array | None = None


def open_set_figures(
    case: OpenSetCase, *, by: str, draws: int, seed: int
) -> dict[str, dict[str, Figure]]:
    """Compute AUROC and FPR95 of each available score; {} if one side is empty.

    Intervals draw whole groups of kind ``by``, else sessions, else single recordings.
    """
    sides = (case.known, case.unknown)
    if not all(len(side) for side in sides):
        return {}
    unseen = np.repeat([0, 1], [len(side) for side in sides])
    # A group of the left-out class is never one of the known classes.
    groups = [f"{n} {g}" for n, side in enumerate(sides) for g in side.group_names(by)]
    figures = {}
    for name, scores in _open_set_scores(case).items():
        fpr_interval = bootstrap_interval(
            fpr_at_tpr,
            scores,
            unseen,
            groups=groups,
            stratify=unseen,
            draws=draws,
            seed=seed,
        )
        auc_interval = auroc_interval(scores, unseen, groups=groups, draws=draws, seed=seed)
        figures[name] = {
            "auroc": figure(auroc(scores, unseen), auc_interval),
            "fpr95": figure(fpr_at_tpr(scores, unseen), fpr_interval),
        }
    return figures


def _open_set_scores(case: OpenSetCase) -> dict[str, NDArray[Any]]:
    """Return each score of the known, then the unknown recordings; larger is less known."""
    known, unknown = case.known, case.unknown
    logits = np.concatenate([known.logits, unknown.logits])
    scores = {
        "max_softmax_score": max_softmax_score(logits),
        "energy_score": energy_score(logits),
    }
    reference, embeddings = case.reference, (known.embeddings, unknown.embeddings)
    if reference is not None and len(reference) and all(e is not None for e in embeddings):
        neighbours = min(NEIGHBOURS, len(reference))
        joined = np.concatenate([e for e in embeddings if e is not None])
        scores["knn_score"] = knn_score(joined, reference, neighbours=neighbours)
    if known.distance is not None and unknown.distance is not None:
        scores["distance"] = np.concatenate([known.distance, unknown.distance])
    if known.flow_nll is not None and unknown.flow_nll is not None:
        scores["flow_nll"] = np.concatenate([known.flow_nll, unknown.flow_nll])
    return scores


_INTERVALS_PER_CLASS = 3


@dataclass(frozen=True, slots=True, eq=False)
class TrivialBaseline:
    """One number per recording.

    Attributes:
        train: ``(M,)`` of the training recordings.
        train_labels: ``(M,)`` their classes.
        test: ``(N,)`` of the test recordings, in their order.
    """

    train: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float64]


def trivial_guesses(baseline: TrivialBaseline) -> NDArray[np.int64]:
    """Predict classes ``(N,)`` by thresholds on one number, at most three intervals a class.

    Raises:
        DataError: lengths differ or there is no training recording.

    Example:
        >>> labels = np.r_[0, 0, 1, 1]
        >>> baseline = TrivialBaseline(np.r_[1.0, 1.1, 5.0, 5.1], labels, np.r_[0.0, 9.0])
        >>> trivial_guesses(baseline).tolist()
        [0, 1]
    """
    train, labels = _column(baseline.train), np.asarray(baseline.train_labels)
    if not len(train) or len(train) != len(labels):
        raise DataError(
            f"{len(train)} numbers and {len(labels)} labels of training recordings were given; "
            "one each, and at least one, was expected."
        )
    leaves = max(2, _INTERVALS_PER_CLASS * len(np.unique(labels)))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=leaves,
        min_samples_leaf=max(1, len(train) // 100),
        class_weight="balanced",
        random_state=0,
    )
    tree.fit(train, labels)
    return np.asarray(tree.predict(_column(baseline.test)), np.int64)


def _column(values: ArrayLike) -> NDArray[np.float64]:
    """Reshape ``(N,)`` to ``(N, 1)``."""
    return np.asarray(values, np.float64).reshape(-1, 1)
