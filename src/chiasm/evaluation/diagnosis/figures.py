"""All figures of a classifier's evaluation, in the one schema of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.evaluation.diagnosis.modality_gap import modality_gap
from chiasm.evaluation.diagnosis.open_set import LeftOut, open_set_figures
from chiasm.evaluation.diagnosis.scored import Labels, ScoredRecordings
from chiasm.evaluation.diagnosis.trivial import TrivialRival, trivial_guesses
from chiasm.metrics.bootstrap import bootstrap_weights, percentile_interval
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
            "gap": round(flattering - own, 5) if known else None,  # type: ignore[operator]
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
