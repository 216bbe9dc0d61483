"""Let a classifier judge the same recordings again, with what can go wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chiasm.data.discharge.corruptions import CORRUPTIONS, MISPAIRED, Corruption, partners
from chiasm.data.discharge.source import DischargeRef
from chiasm.data.discharge.store import DischargeStore
from chiasm.diagnoser import Diagnoser
from chiasm.evaluation.diagnosis.scored import ScoredRecordings
from chiasm.samples import DischargeSample
from chiasm.workflows.score_recordings import score_recordings

UNPAIRED = (
    "No picture was put beside another recording's series: that takes recordings of two classes "
    "that have both."
)


def score_corrupted(
    model: Diagnoser, store: DischargeStore, refs: Sequence[DischargeRef]
) -> tuple[dict[str, ScoredRecordings], tuple[str, ...]]:
    """What is said of labelled recordings by corruption; and a sentence where one was left out."""
    found: dict[str, ScoredRecordings] = {}
    notes: tuple[str, ...] = ()
    for name, change in CORRUPTIONS.items() if refs else ():
        others: Sequence[DischargeRef] = refs
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
    store: DischargeStore, others: Sequence[DischargeRef], change: Corruption
) -> Callable[[DischargeSample], DischargeSample]:
    """The corruption of each recording in turn, with the one whose picture it might be given."""
    turns = iter(others)

    def changed(sample: DischargeSample) -> DischargeSample:
        other = next(turns)
        return change(sample, sample if other.source == sample.source else store.load(other))

    return changed


def _with_other_pictures(store: DischargeStore, refs: Sequence[DischargeRef]) -> list[DischargeRef]:
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
