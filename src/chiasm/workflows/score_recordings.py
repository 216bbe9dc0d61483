"""Let a classifier judge recordings of a store, in the form that evaluation takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chiasm.data.discharge.source import DischargeRef
from chiasm.data.discharge.store import DischargeStore
from chiasm.diagnoser import Diagnoser
from chiasm.diagnosis_rule import combined_opinion
from chiasm.errors import DataError
from chiasm.evaluation.diagnosis.scored import ScoredRecordings
from chiasm.fusion.evidence import conflict
from chiasm.samples import DischargeSample


def score_recordings(
    model: Diagnoser,
    store: DischargeStore,
    refs: Sequence[DischargeRef],
    *,
    change: Callable[[DischargeSample], DischargeSample] = lambda sample: sample,
    alone: bool = True,
) -> ScoredRecordings:
    """Judge labelled recordings, each as ``change`` makes it.

    Args:
        model: the classifier.
        store: where the recordings lie.
        refs: which of them; all labelled.
        change: a corruption, or a modality taken away from all of them.
        alone: also judge by each modality alone, from which uncertainty and conflict follow.

    Raises:
        DataError: a recording has no label, or lacks a modality that others have.
    """
    if any(ref.label is None for ref in refs):
        raise DataError("Only labelled recordings can be scored; leave out those without a label.")
    names = model.contract.modalities
    seen = model.observe_samples((change(store.load(ref)) for ref in refs), alone=alone)
    whole = [key for key, z in seen.logits.items() if not np.isnan(z).any()]
    if not whole:
        raise DataError(
            "Some recordings lack the image and others the series: score them one after the other."
        )
    key = max(whole, key=len)
    there = tuple(name for name in names if name in key.split("+"))
    singles = {m: seen.logits[m] for m in there if m in seen.logits}
    temperatures = model.contract.temperatures
    uncertainty = disagreement = None
    if len(singles) == len(there):
        opinion, each = combined_opinion(singles, {m: temperatures.get(m, 1.0) for m in there})
        uncertainty = opinion.uncertainty
        disagreement = conflict(*each) if len(each) == 2 else np.full(len(refs), np.nan)
    likelihoods = [seen.flow_nll[m] for m in there if m in seen.flow_nll]
    density = np.mean(likelihoods, axis=0) if len(likelihoods) == len(there) else None
    kinds_of_group = sorted(set.intersection(*(set(ref.group) for ref in refs)) if refs else ())
    return ScoredRecordings(
        logits=seen.logits[key],
        labels=seen.labels,
        kinds=model.contract.kinds,
        groups={by: np.array([ref.group[by] for ref in refs]) for by in kinds_of_group},
        sources=seen.sources,
        embeddings=seen.pooled[key],
        modality_logits=singles if len(there) > 1 else {},
        before={m: seen.before[m] for m in there if m in seen.before},
        after={m: seen.after[m] for m in there if m in seen.after},
        flow_nll=density,
        uncertainty=uncertainty,
        conflict=disagreement,
        temperature=temperatures.get(key, 1.0),
    )
