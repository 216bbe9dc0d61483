"""Methods compared on the same test recordings, and what may be said of it, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

DRAWS, LEVEL, ALPHA = 2000, 0.95, 0.05
# Fewer groups than this are too few to draw from; their sessions are drawn instead.
FEWEST_GROUPS = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of a table that are to be compared in pairs.

    Attributes:
        title: of which split, in words.
        by: kind of group that no test recording shares with training, or ``random``.
        rows: label to the runs whose test recordings are joined.
        file: of predictions, those of the test recordings unless told.
    """

    title: str
    by: str
    rows: Mapping[str, tuple[Trial, ...]]
    file: str = PREDICTIONS


@dataclass(frozen=True, slots=True)
class Against:
    """A method against a better one on the same recordings.

    Attributes:
        method, other: labels.
        difference: of macro-F1, the method's minus the other's; ``low`` and ``high`` of 95 %.
        p_value: two-sided, after Holm's correction over all pairs of the comparison.
    """

    method: str
    other: str
    difference: float
    low: float
    high: float
    p_value: float


def joined(
    cells: Sequence[Trial], store: ResultStore, file: str = PREDICTIONS
) -> ScoredRecordings | None:
    """The test recordings of some runs one after the other; None where one run is not there.

    ``sources`` name seed and group that was left out, too, so that pairs are of the same split.
    """
    paths = [store.report_folder(cell) / file for cell in cells]
    if not cells or not all(path.exists() for path in paths):
        return None
    tags = [f"{c.settings.get('seed')}:{c.settings.get('test_group', '')}" for c in cells]
    return _joined(tuple(paths), tuple(tags), tuple(path.stat().st_mtime_ns for path in paths))


@lru_cache(maxsize=256)
def _joined(
    paths: tuple[Path, ...], tags: tuple[str, ...], _written: tuple[int, ...]
) -> ScoredRecordings:
    return stacked([(tag, read_predictions(path)) for tag, path in zip(tags, paths)])


def drawn_by(scored: ScoredRecordings, by: str) -> str:
    """The kind of group that a bootstrap draws: that of the split, where there are enough."""
    enough = by in scored.groups and len(set(scored.groups[by].tolist())) >= FEWEST_GROUPS
    return by if enough or "session" not in scored.groups else "session"


def pooled_figure(entry: Entry, store: ResultStore) -> tuple[float, Any, Any] | None:
    """``(value, low, high)`` of a figure of all test recordings of an entry's runs together."""
    scored = joined(entry.cells, store)
    if scored is None:
        return None
    found = _figures(scored, drawn_by(scored, entry.by))[entry.figure.removeprefix(POOLED)]
    return None if found["value"] is None else (found["value"], found["low"], found["high"])


_KNOWN: dict[tuple[int, str], tuple[ScoredRecordings, dict[str, Any]]] = {}


def _figures(scored: ScoredRecordings, by: str) -> dict[str, Any]:
    """Figures, computed once for each list that ``joined`` keeps."""
    key = (id(scored), by)
    if key not in _KNOWN or _KNOWN[key][0] is not scored:
        _KNOWN[key] = (scored, recording_figures(scored, by=by))
    return _KNOWN[key][1]


def compared(comparison: Comparison, store: ResultStore) -> tuple[list[str], list[Against]]:
    """Sentences on who is best, who is level with it, and who clears the simple rivals' bar.

    Every method is compared with the best one, and every network with the best simple one, by a
    paired bootstrap over groups; p-values are Holm's over all these pairs.
    """
    rows = {x: joined(cells, store, comparison.file) for x, cells in comparison.rows.items()}
    there = {label: one for label, one in rows.items() if one is not None and len(one)}
    missing = [label for label in rows if label not in there]
    if len(there) < 2:
        return [], []
    shared = sorted(set.intersection(*(set(one.sources) for one in there.values())))
    if not shared:
        return [f"{comparison.title}: no test recording is common to all methods."], []
    kept = {label: _of(one, shared) for label, one in there.items()}
    first = next(iter(kept.values()))
    by = drawn_by(first, comparison.by)
    groups = first.group_names(by)
    score = {label: _f1(one) for label, one in kept.items()}
    best = max(score, key=lambda label: score[label])
    simple = [label for label in kept if _family(label) == SIMPLE]
    bar = max(simple, key=lambda label: score[label]) if simple else ""
    pairs = [(label, best) for label in kept if label != best]
    pairs += [(n, bar) for n in kept if bar not in ("", best) and n not in (*simple, best)]
    pairs += [(best, bar)] if bar and best not in simple else []
    found = []
    for method, other in pairs:
        one = paired_group_bootstrap(
            _figure(kept[method]), _figure(kept[other]), groups, level=LEVEL, draws=DRAWS
        )
        found.append(Against(method, other, *one))
    adjusted = holm([one.p_value for one in found])
    found = [
        Against(o.method, o.other, o.difference, o.low, o.high, p) for o, p in zip(found, adjusted)
    ]
    head = (
        f"{comparison.title}, {len(shared)} test recordings of {len(set(groups))} "
        f"{'recordings of no group' if by not in first.groups else _many(by)}: "
    )
    words = [head + _best(best, score, found)]
    if bar:
        words.append(_bar(comparison.title, bar, best, score, found))
    if missing:
        words.append(f"{comparison.title}: not compared, for runs are missing: {_list(missing)}.")
    return words, found


def _best(best: str, score: Mapping[str, float], found: Sequence[Against]) -> str:
    own = [one for one in found if one.other == best]
    level = [one.method for one in own if one.p_value > ALPHA]
    worse = [one for one in own if one.p_value <= ALPHA]
    words = f"the highest macro-F1 is that of {best}, {score[best]:.3f}. "
    words += (
        f"Statistically indistinguishable from it (paired bootstrap, Holm's p > {ALPHA}): "
        f"{_list(level)}. "
        if level
        else "All others are worse beyond chance. "
    )
    if worse and level:
        words += "Worse beyond chance: " + _list([_shown(one) for one in worse]) + ". "
    return words.strip()


def _bar(
    title: str, bar: str, best: str, score: Mapping[str, float], found: Sequence[Against]
) -> str:
    said = []
    for label in score:
        if _family(label) != OURS:
            continue
        one = next((o for o in found if (o.method, o.other) == (label, bar)), None)
        if one is None:
            continue
        if one.p_value > ALPHA:
            said.append(f"{_shown(one)} is level with it")
        else:
            verb = "clears it" if one.difference > 0 else "falls short of it"
            said.append(f"{_shown(one)} {verb}")
    head = f"{title}: the bar among simple rivals is {bar}, {score[bar]:.3f}"
    return f"{head}: {_list(said)}." if said else f"{head}."


def _family(label: str) -> str:
    """Variants and sizes that only some tables have are ours."""
    return METHODS[label][0] if label in METHODS else OURS


def _shown(one: Against) -> str:
    return f"{one.method} ({one.difference:+.3f}, {one.low:+.3f} to {one.high:+.3f})"


def _list(parts: Sequence[str]) -> str:
    return "; ".join(parts) if any("," in part for part in parts) else ", ".join(parts)


def _many(by: str) -> str:
    return {"session": "sessions", "equipment": "kinds of equipment"}.get(by, f"groups by {by}")


def _of(scored: ScoredRecordings, names: Sequence[str]) -> ScoredRecordings:
    """The recordings of these names, in their order."""
    place = {name: number for number, name in enumerate(scored.sources)}
    rows = np.array([place[name] for name in names])
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
    from chiasm.metrics.classification import macro_f1

    # As rounded as it stands in the table.
    return round(macro_f1(scored.labels, scored.guesses, len(scored.kinds)), 5)
