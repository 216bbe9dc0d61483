"""Paired comparison of methods on the same test recordings, with a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.benchmarks.diagnosis import METHODS, OURS, SIMPLE
from chiasm.benchmarks.store import ResultStore
from chiasm.benchmarks.table import POOLED, Entry
from chiasm.benchmarks.trial import Trial
from chiasm.diagnosis.report.figures import recording_figures
from chiasm.diagnosis.report.predictions import PREDICTIONS, read_predictions, stacked
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.metrics.bootstrap import holm, macro_f1_figure, paired_group_bootstrap
from chiasm.metrics.classification import macro_f1

DRAWS, LEVEL, ALPHA = 2000, 0.95, 0.05
# With fewer groups the bootstrap draws sessions instead.
MIN_GROUPS = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of a table to compare in pairs.

    Attributes:
        title: the split in words.
        by: kind of group that no test recording shares with training, or ``random``.
        rows: label to the trials whose test recordings are joined.
        file: name of the predictions, by default of the test recordings.
    """

    title: str
    by: str
    rows: Mapping[str, tuple[Trial, ...]]
    file: str = PREDICTIONS


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of two methods on the same recordings.

    Attributes:
        method, other: labels.
        difference: macro-F1 of the method minus that of the other; ``low`` and ``high`` of 95 %.
        p_value: two-sided, of this pair alone.
        adjusted: by Holm over all pairs of the comparison, which is the family.
    """

    method: str
    other: str
    difference: float
    low: float
    high: float
    p_value: float
    adjusted: float = 1.0


def joined(
    trials: Sequence[Trial], store: ResultStore, file: str = PREDICTIONS
) -> ScoredRecordings | None:
    """Return the concatenated test recordings of trials; None if one trial has no predictions.

    ``sources`` also name seed and left-out group, so that pairs belong to the same split.
    """
    paths = [store.report_folder(trial) / file for trial in trials]
    if not trials or not all(path.exists() for path in paths):
        return None
    tags = [f"{t.settings.get('seed')}:{t.settings.get('test_group', '')}" for t in trials]
    return _joined(tuple(paths), tuple(tags), tuple(path.stat().st_mtime_ns for path in paths))


@lru_cache(maxsize=256)
def _joined(
    paths: tuple[Path, ...], tags: tuple[str, ...], _written: tuple[int, ...]
) -> ScoredRecordings:
    return stacked([(tag, read_predictions(path)) for tag, path in zip(tags, paths)])


def bootstrap_unit(scored: ScoredRecordings, by: str) -> str:
    """Return the kind of group that the bootstrap draws: that of the split if there are enough."""
    enough = by in scored.groups and len(set(scored.groups[by].tolist())) >= MIN_GROUPS
    return by if enough or "session" not in scored.groups else "session"


def pooled_figure(entry: Entry, store: ResultStore) -> tuple[float, Any, Any] | None:
    """Return ``(value, low, high)`` of a figure over the joined test recordings of an entry."""
    scored = joined(entry.trials, store)
    if scored is None:
        return None
    figures = _figures(scored, bootstrap_unit(scored, entry.by))
    figure = figures[entry.figure.removeprefix(POOLED)]
    return None if figure["value"] is None else (figure["value"], figure["low"], figure["high"])


_CACHE: dict[tuple[int, str], tuple[ScoredRecordings, dict[str, Any]]] = {}


def _figures(scored: ScoredRecordings, by: str) -> dict[str, Any]:
    """Return the figures, computed once for each list that ``joined`` caches."""
    key = (id(scored), by)
    if key not in _CACHE or _CACHE[key][0] is not scored:
        _CACHE[key] = (scored, recording_figures(scored, by=by))
    return _CACHE[key][1]


def compared(comparison: Comparison, store: ResultStore) -> tuple[list[str], list[Difference]]:
    """Return sentences on the best method, those not shown to be worse, and the best simple one.

    Each difference stands with its interval, and with its p-value alone and adjusted.

    Every method is compared with the best one, and every network with the best simple baseline, by
    a paired bootstrap over groups; p-values are Holm-adjusted over all these pairs.
    """
    rows = {label: joined(t, store, comparison.file) for label, t in comparison.rows.items()}
    present = {label: scored for label, scored in rows.items() if scored and len(scored)}
    missing = [label for label in rows if label not in present]
    if len(present) < 2:
        return [], []
    shared = sorted(set.intersection(*(set(scored.sources) for scored in present.values())))
    if not shared:
        return [f"{comparison.title}: no test recording is common to all methods."], []
    methods = {label: _subset(scored, shared) for label, scored in present.items()}
    first = next(iter(methods.values()))
    by = bootstrap_unit(first, comparison.by)
    groups = first.group_names(by)
    score = {label: _f1(scored) for label, scored in methods.items()}
    best = max(score, key=lambda label: score[label])
    simple = [label for label in methods if _family(label) == SIMPLE]
    bar = max(simple, key=lambda label: score[label]) if simple else ""
    pairs = [(label, best) for label in methods if label != best]
    pairs += [(n, bar) for n in methods if bar not in ("", best) and n not in (*simple, best)]
    pairs += [(best, bar)] if bar and best not in simple else []
    differences = []
    for method, other in pairs:
        difference = paired_group_bootstrap(
            _figure(methods[method]), _figure(methods[other]), groups, level=LEVEL, draws=DRAWS
        )
        differences.append(Difference(method, other, *difference))
    adjusted = holm([difference.p_value for difference in differences])
    differences = [replace(d, adjusted=p) for d, p in zip(differences, adjusted)]
    head = (
        f"{comparison.title}, {len(shared)} test recordings of {len(set(groups))} "
        f"{'recordings of no group' if by not in first.groups else _plural(by)}: "
    )
    sentences = [head + _best_sentence(best, score, differences)]
    if bar:
        sentences.append(_bar_sentence(comparison.title, bar, score, differences))
    if missing:
        sentences.append(f"{comparison.title}: not compared, runs are missing: {_list(missing)}.")
    return sentences, differences


def _best_sentence(best: str, score: Mapping[str, float], differences: Sequence[Difference]) -> str:
    from_best = [d for d in differences if d.other == best]
    alike = [d for d in from_best if d.adjusted > ALPHA]
    worse = [d for d in from_best if d.adjusted <= ALPHA]
    words = f"the highest macro-F1 is that of {best}, {score[best]:.3f}. "
    words += (
        f"Not shown to be worse, which is no proof of being as good (paired bootstrap; p adjusted "
        f"by Holm over the {len(differences)} pairs of this split > {ALPHA}): "
        f"{_list([_text(d) for d in alike])}. "
        if alike
        else f"All others are significantly worse (p adjusted by Holm over {len(differences)} "
        "pairs). "
    )
    if worse and alike:
        words += "Significantly worse: " + _list([_text(d) for d in worse]) + ". "
    return words.strip()


def _bar_sentence(
    title: str, bar: str, score: Mapping[str, float], differences: Sequence[Difference]
) -> str:
    from_bar = {d.method: d for d in differences if d.other == bar and _family(d.method) == OURS}
    clauses = []
    for difference in (from_bar[label] for label in score if label in from_bar):
        if difference.adjusted > ALPHA:
            relation = "is not shown to differ from it"
        else:
            relation = "is better" if difference.difference > 0 else "is worse"
        clauses.append(f"{_text(difference)} {relation}")
    head = f"{title}: the best simple baseline is {bar}, {score[bar]:.3f}"
    return f"{head}: {_list(clauses)}." if clauses else f"{head}."


def _family(label: str) -> str:
    """Return the family of a method; variants and sizes outside ``METHODS`` are ours."""
    return METHODS[label][0] if label in METHODS else OURS


def _text(d: Difference) -> str:
    interval = f"{d.low:+.3f} to {d.high:+.3f}"
    return f"{d.method} ({d.difference:+.3f}, {interval}, p {d.p_value:.3f}, {d.adjusted:.3f})"


def _list(parts: Sequence[str]) -> str:
    return "; ".join(parts) if any("," in part for part in parts) else ", ".join(parts)


def _plural(by: str) -> str:
    return {"session": "sessions", "equipment": "kinds of equipment"}.get(by, f"groups by {by}")


def _subset(scored: ScoredRecordings, names: Sequence[str]) -> ScoredRecordings:
    """Return the recordings with these names, in this order."""
    row_of = {name: row for row, name in enumerate(scored.sources)}
    rows = np.array([row_of[name] for name in names])
    return ScoredRecordings(
        logits=scored.logits[rows],
        labels=scored.labels[rows],
        kinds=scored.kinds,
        groups={by: names_of[rows] for by, names_of in scored.groups.items()},
        sources=tuple(names),
    )


def _figure(scored: ScoredRecordings) -> Any:
    return macro_f1_figure(scored.labels, scored.guesses, len(scored.kinds))


def _f1(scored: ScoredRecordings) -> float:
    # Rounded as in the table.
    return round(macro_f1(scored.labels, scored.guesses, len(scored.kinds)), 5)
