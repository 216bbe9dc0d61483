"""Score labelled recordings with a classifier, in the form that evaluation takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from chiasm.diagnosis.augmentation.corruptions import CORRUPTIONS, MISPAIRED, Corruption, partners
from chiasm.diagnosis.decision import (
    Array,
    UnknownRule,
    combined_opinion,
    is_unknown,
    support,
)
from chiasm.diagnosis.predictor import NetworkOutputs
from chiasm.diagnosis.preparation.network_inputs import sample_modalities
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.fusion.evidence import conflict
from chiasm.samples import Diagnosis, RecordingSample
from chiasm.training.progress import counted

# Modalities that recordings have, to the indices of these recordings.
Subsets = Mapping[tuple[str, ...], np.ndarray]


class EvaluatedModel(Protocol):
    """A trained or exported classifier, as an evaluation uses it; see ``DiagnosisPredictor``."""

    @property
    def contract(self) -> Any:
        """With method, kinds, modalities, temperatures, split, and what is 'unknown'."""
        ...

    @property
    def parameters(self) -> int | None:
        """Number of the network's parameters; None of an exported one."""
        ...

    def predict(self, sample: RecordingSample) -> Diagnosis:
        """Diagnose one recording."""
        ...

    def outputs(self, samples: Iterable[RecordingSample], *, single: bool = True) -> NetworkOutputs:
        """Compute the network's outputs for some recordings."""
        ...


def score_recordings(
    model: EvaluatedModel,
    store: RecordingStore,
    refs: Sequence[RecordingRef],
    *,
    change: Callable[[RecordingSample], RecordingSample] = lambda sample: sample,
    single: bool = True,
    stage: str = "Scoring",
) -> ScoredRecordings:
    """Score labelled recordings as a diagnosis does: each by the modalities that it has.

    Args:
        model: the classifier.
        store: that holds the recordings.
        refs: the recordings; all labelled.
        change: a corruption, or the removal of a modality, of every recording.
        single: also score each modality alone, which uncertainty and conflict need; always done
            if a recording lacks a modality.
        stage: what the line of progress says.

    Raises:
        DataError: there is no recording, or one has no label or none of the model's modalities.
    """
    if not refs:
        raise DataError("There is no recording to score: the list is empty.")
    if any(ref.label is None for ref in refs):
        raise DataError("Only labelled recordings can be scored; leave out those without a label.")
    names = model.contract.modalities
    present: list[tuple[str, ...]] = []

    def changed() -> Iterator[RecordingSample]:
        for ref in counted(stage, refs, unit="recordings"):
            sample = change(store.load(ref))
            present.append(sample_modalities(sample, names))
            yield sample

    single = single or any(_lacks(store, ref, names) for ref in refs)
    outputs = model.outputs(changed(), single=single)
    subsets = {
        subset: np.flatnonzero([subset == other for other in present])
        for subset in dict.fromkeys(present)
    }
    logits = _rows_of(outputs.logits, subsets)
    assert logits is not None  # of all subsets there are as many as classes
    commonest = max(subsets, key=lambda subset: (len(subsets[subset]), len(subset)))
    contract_temperatures = model.contract.temperatures
    temperatures = {s: contract_temperatures.get("+".join(s), 1.0) for s in subsets}
    seen = tuple(name for name in names if any(name in subset for subset in subsets))
    single_logits = {m: outputs.logits[m] for m in seen if m in outputs.logits}
    uncertainty = disagreement = distance = unknown = None
    if len(single_logits) == len(seen):
        uncertainty, disagreement, belief = _opinions(
            single_logits, subsets, contract_temperatures, logits
        )
        rule, least = model.contract.unknown, model.contract.unknown_below
        far, limits = _distances(outputs.distance, subsets, rule)
        unknown = is_unknown(belief, _by_subset(least, subsets, 0.0), far, limits)
        distance = None if np.isnan(far).any() else far / limits
    likelihoods = [outputs.flow_nll[m] for m in seen if m in outputs.flow_nll]
    density = np.nanmean(likelihoods, axis=0) if len(likelihoods) == len(seen) else None
    group_kinds = sorted(set.intersection(*(set(ref.group) for ref in refs)))
    return ScoredRecordings(
        logits=logits,
        labels=outputs.labels,
        kinds=model.contract.kinds,
        groups={kind: np.array([ref.group[kind] for ref in refs]) for kind in group_kinds},
        sources=outputs.sources,
        embeddings=_rows_of(outputs.pooled, subsets) if outputs.pooled else None,
        modality_logits=single_logits if len(seen) > 1 else {},
        before={m: outputs.before[m] for m in seen if m in outputs.before},
        after={m: outputs.after[m] for m in seen if m in outputs.after},
        flow_nll=density,
        uncertainty=uncertainty,
        conflict=disagreement,
        distance=distance,
        unknown=unknown,
        temperature=temperatures[commonest],
        temperatures=(
            np.array([temperatures[subset] for subset in present]) if len(subsets) > 1 else None
        ),
        lacking={m: sum(m not in subset for subset in present) for m in names},
    )


def _lacks(store: RecordingStore, ref: RecordingRef, names: Sequence[str]) -> bool:
    return ("image" in names and not store.has_image(ref)) or (
        "series" in names and store.counts(ref) is None
    )


def _rows_of(arrays: Mapping[str, Array], subsets: Subsets) -> Array | None:
    """Return one row for each recording, by all modalities that it has; None if widths differ."""
    parts = {subset: arrays["+".join(subset)][rows] for subset, rows in subsets.items()}
    widths = {part.shape[1] for part in parts.values()}
    if len(widths) != 1:
        return None
    out: Array = np.empty((sum(map(len, parts.values())), widths.pop()))
    for subset, rows in subsets.items():
        out[rows] = parts[subset]
    return out


def _distances(
    distances: Mapping[str, Array], subsets: Subsets, rule: UnknownRule | None
) -> tuple[Array, Array]:
    """Return distances ``(N,)`` by what each recording has, and their limits; NaN without."""
    limits = _by_subset({} if rule is None else rule.limits, subsets, np.nan)
    out = np.full(len(limits), np.nan)
    for subset, rows in subsets.items():
        if "+".join(subset) in distances:
            out[rows] = distances["+".join(subset)][rows]
    return out, limits


def _by_subset(values: Mapping[str, float], subsets: Subsets, default: float) -> Array:
    """Return a contract's value ``(N,)`` for the modalities that each recording has."""
    out = np.empty(sum(map(len, subsets.values())))
    for subset, rows in subsets.items():
        out[rows] = values.get("+".join(subset), default)
    return out


def _opinions(
    single_logits: Mapping[str, Array],
    subsets: Subsets,
    temperatures: Mapping[str, float],
    joint: Array,
) -> tuple[Array, Array, Array]:
    """Return uncertainty, conflict (NaN for recordings with one modality), and belief."""
    count = sum(map(len, subsets.values()))
    uncertainty, disagreement = np.empty(count), np.full(count, np.nan)
    belief = np.empty(count)
    for subset, rows in subsets.items():
        opinion, single = combined_opinion(
            {m: single_logits[m][rows] for m in subset},
            {m: temperatures.get(m, 1.0) for m in subset},
        )
        uncertainty[rows] = opinion.uncertainty
        belief[rows] = support(opinion, joint[rows])  # a temperature does not change the likeliest
        if len(single) == 2:
            disagreement[rows] = conflict(*single)
    return uncertainty, disagreement, belief


UNPAIRED = (
    "No picture was put beside another recording's series: that takes recordings of two classes "
    "that have both."
)


def score_corrupted(
    model: EvaluatedModel, store: RecordingStore, refs: Sequence[RecordingRef]
) -> tuple[dict[str, ScoredRecordings], tuple[str, ...]]:
    """Return the scores of labelled recordings by corruption, and a note on each left-out one."""
    scores: dict[str, ScoredRecordings] = {}
    notes: tuple[str, ...] = ()
    for number, (name, change) in enumerate(CORRUPTIONS.items() if refs else (), start=1):
        others: Sequence[RecordingRef] = refs
        if name == MISPAIRED:
            others = _with_other_pictures(store, refs)
            if not others:
                if any(_has_both(store, ref) for ref in refs):  # else nothing is to be said
                    notes = (UNPAIRED,)
                continue
        scores[name] = score_recordings(
            model,
            store,
            refs,
            change=_changed(store, others, change),
            single=False,
            stage=f"Scoring with {name} ({number} of {len(CORRUPTIONS)})",
        )
    return scores, notes


def _has_both(store: RecordingStore, ref: RecordingRef) -> bool:
    return store.has_image(ref) and store.counts(ref) is not None


def _changed(
    store: RecordingStore, others: Sequence[RecordingRef], change: Corruption
) -> Callable[[RecordingSample], RecordingSample]:
    """Return the corruption of each recording in turn, given the one whose picture it may take."""
    partner = iter(others)

    def changed(sample: RecordingSample) -> RecordingSample:
        other = next(partner)
        return change(sample, sample if other.source == sample.source else store.load(other))

    return changed


def _with_other_pictures(store: RecordingStore, refs: Sequence[RecordingRef]) -> list[RecordingRef]:
    """Return for each recording the one whose picture it takes: itself if it lacks a modality.

    Empty if the recordings that have both modalities are of one class.
    """
    complete = [index for index, ref in enumerate(refs) if _has_both(store, ref)]
    labels = np.array([refs[index].label for index in complete])
    if len(np.unique(labels)) < 2:
        return []
    sources = list(refs)
    for index, other in zip(complete, partners(labels)):
        sources[index] = refs[complete[other]]
    return sources
