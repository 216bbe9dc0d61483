"""Let a classifier judge recordings of a store, in the form that evaluation takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from chiasm.diagnosis.augmentation.corruptions import CORRUPTIONS, MISPAIRED, Corruption, partners
from chiasm.diagnosis.decision import Array, combined_opinion
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.preparation.network_inputs import present
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.fusion.evidence import conflict
from chiasm.samples import RecordingSample


def score_recordings(
    model: DiagnosisPredictor,
    store: RecordingStore,
    refs: Sequence[RecordingRef],
    *,
    change: Callable[[RecordingSample], RecordingSample] = lambda sample: sample,
    alone: bool = True,
) -> ScoredRecordings:
    """Judge labelled recordings, each as ``change`` makes it and by what it has, as a diagnosis is.

    Args:
        model: the classifier.
        store: where the recordings lie.
        refs: which of them; all labelled.
        change: a corruption, or a modality taken away from all of them.
        alone: also judge by each modality alone, from which uncertainty and conflict follow; it is
            done in any case where a recording lacks one.

    Raises:
        DataError: there is no recording, or one has no label or nothing that the model looks at.
    """
    if not refs:
        raise DataError("There is no recording to judge: the list is empty.")
    if any(ref.label is None for ref in refs):
        raise DataError("Only labelled recordings can be scored; leave out those without a label.")
    names = model.contract.modalities
    shown: list[tuple[str, ...]] = []

    def changed() -> Iterator[RecordingSample]:
        for ref in refs:
            sample = change(store.load(ref))
            shown.append(present(sample, names))
            yield sample

    alone = alone or any(_lacks(store, ref, names) for ref in refs)
    seen = model.observe_samples(changed(), alone=alone)
    rows = {one: np.flatnonzero([one == other for other in shown]) for one in dict.fromkeys(shown)}
    if not alone and set(rows) != {names}:
        raise DataError("The change takes a modality away: let each be judged alone as well.")
    logits = _by_what_is_there(seen.logits, rows)
    assert logits is not None  # as many numbers as there are classes, whatever was shown
    usual = max(rows, key=lambda one: (len(rows[one]), len(one)))
    own = {one: model.contract.temperatures.get("+".join(one), 1.0) for one in rows}
    each = np.array([own[one] for one in shown])
    there = tuple(name for name in names if any(name in one for one in rows))
    singles = {m: seen.logits[m] for m in there if m in seen.logits}
    uncertainty = disagreement = None
    if len(singles) == len(there):
        uncertainty, disagreement = _opinions(singles, rows, model.contract.temperatures)
    likelihoods = [seen.flow_nll[m] for m in there if m in seen.flow_nll]
    density = np.nanmean(likelihoods, axis=0) if len(likelihoods) == len(there) else None
    kinds_of_group = sorted(set.intersection(*(set(ref.group) for ref in refs)))
    return ScoredRecordings(
        logits=logits,
        labels=seen.labels,
        kinds=model.contract.kinds,
        groups={by: np.array([ref.group[by] for ref in refs]) for by in kinds_of_group},
        sources=seen.sources,
        embeddings=_by_what_is_there(seen.pooled, rows),
        modality_logits=singles if len(there) > 1 else {},
        before={m: seen.before[m] for m in there if m in seen.before},
        after={m: seen.after[m] for m in there if m in seen.after},
        flow_nll=density,
        uncertainty=uncertainty,
        conflict=disagreement,
        temperature=own[usual],
        temperatures=each if len(rows) > 1 else None,
        lacking={m: sum(m not in one for one in shown) for m in names},
    )


Rows = Mapping[tuple[str, ...], np.ndarray]


def _lacks(store: RecordingStore, ref: RecordingRef, names: Sequence[str]) -> bool:
    return ("image" in names and not store.has_image(ref)) or (
        "series" in names and store.counts(ref) is None
    )


def _by_what_is_there(found: Mapping[str, Array], rows: Rows) -> Array | None:
    """One row for each recording, by all that it has; None where their widths differ."""
    parts = {there: found["+".join(there)][places] for there, places in rows.items()}
    if len({part.shape[1] for part in parts.values()}) != 1:
        return None
    width = next(iter(parts.values())).shape[1]
    out: Array = np.empty((sum(map(len, parts.values())), width))
    for there, places in rows.items():
        out[places] = parts[there]
    return out


def _opinions(
    singles: Mapping[str, Array], rows: Rows, temperatures: Mapping[str, float]
) -> tuple[Array, Array]:
    """Uncertainty, and conflict of those that have two modalities, NaN of the others."""
    count = sum(map(len, rows.values()))
    uncertainty, disagreement = np.empty(count), np.full(count, np.nan)
    for there, places in rows.items():
        opinion, each = combined_opinion(
            {m: singles[m][places] for m in there}, {m: temperatures.get(m, 1.0) for m in there}
        )
        uncertainty[places] = opinion.uncertainty
        if len(each) == 2:
            disagreement[places] = conflict(*each)
    return uncertainty, disagreement


UNPAIRED = (
    "No picture was put beside another recording's series: that takes recordings of two classes "
    "that have both."
)


def score_corrupted(
    model: DiagnosisPredictor, store: RecordingStore, refs: Sequence[RecordingRef]
) -> tuple[dict[str, ScoredRecordings], tuple[str, ...]]:
    """What is said of labelled recordings by corruption; and a sentence where one was left out."""
    found: dict[str, ScoredRecordings] = {}
    notes: tuple[str, ...] = ()
    for name, change in CORRUPTIONS.items() if refs else ():
        others: Sequence[RecordingRef] = refs
        if name == MISPAIRED:
            others = _with_other_pictures(store, refs)
            if not others:
                notes = (UNPAIRED,)
                continue
        found[name] = score_recordings(
            model, store, refs, change=_changed(store, others, change), alone=False
        )
    return found, notes


def _changed(
    store: RecordingStore, others: Sequence[RecordingRef], change: Corruption
) -> Callable[[RecordingSample], RecordingSample]:
    """The corruption of each recording in turn, with the one whose picture it might be given."""
    turns = iter(others)

    def changed(sample: RecordingSample) -> RecordingSample:
        other = next(turns)
        return change(sample, sample if other.source == sample.source else store.load(other))

    return changed


def _with_other_pictures(store: RecordingStore, refs: Sequence[RecordingRef]) -> list[RecordingRef]:
    """For each recording whose picture it is given: its own where it lacks picture or series.

    Nothing where those that have both are not of two classes.
    """
    whole = [
        place
        for place, ref in enumerate(refs)
        if store.has_image(ref) and store.counts(ref) is not None
    ]
    labels = np.array([refs[place].label for place in whole])
    if len(np.unique(labels)) < 2:
        return []
    given = list(refs)
    for place, other in zip(whole, partners(labels)):
        given[place] = refs[whole[other]]
    return given
