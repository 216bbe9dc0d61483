"""How a run divides recordings, and by what name a group is known afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from chiasm.data.discharge.source import DischargeRef
from chiasm.data.discharge.splits import (
    RANDOM,
    DischargeSplit,
    given_split,
    leave_one_out,
    split_recordings,
)
from chiasm.data.discharge.store import DischargeStore
from chiasm.discharge_config import DiagnosisConfig
from chiasm.errors import DataError

GIVEN = "given"


def division(
    store: DischargeStore, labelled: Sequence[DischargeRef], config: DiagnosisConfig
) -> DischargeSplit:
    """Divide the recordings that have something for the network to look at.

    Raises ``DataError`` where there are none, or a class that is to be left out does not exist.
    """
    refs = [ref for ref in labelled if has_any(store, ref, config.modalities)]
    if not refs:
        raise DataError(
            f"{config.data} has no labelled recording with {' or '.join(config.modalities)}."
        )
    return _without_classes(divide(refs, config), store.kinds, config.left_out)


def divide(refs: list[DischargeRef], config: DiagnosisConfig) -> DischargeSplit:
    """The split that the settings ask for."""
    if config.split_by == GIVEN:
        return given_split(refs, by=group_of(GIVEN, refs))
    if config.test_group is not None:
        share = config.shares[1] / (config.shares[0] + config.shares[1])
        folds = leave_one_out(
            refs,
            by=config.split_by,
            validation_share=share,
            seed=config.seed,
            only=config.test_group,
        )
        return next(split for _, split in folds)
    return split_recordings(refs, by=config.split_by, shares=config.shares, seed=config.seed)


def _without_classes(
    split: DischargeSplit, kinds: tuple[str, ...], left_out: tuple[str, ...]
) -> DischargeSplit:
    """The split with training and validation recordings of some classes taken away."""
    unknown = sorted(set(left_out) - set(kinds))
    if unknown:
        raise DataError(f"There is no class '{unknown[0]}'; choose from {', '.join(kinds)}.")
    gone = {kinds.index(kind) for kind in left_out}
    return DischargeSplit(
        tuple(ref for ref in split.train if ref.label not in gone),
        tuple(ref for ref in split.validation if ref.label not in gone),
        split.test,
    )


def group_of(split_by: str, refs: Iterable[DischargeRef]) -> str:
    """The kind of group that a split keeps whole; of a given one the session, where all have it."""
    if split_by != GIVEN:
        return split_by
    return "session" if all(ref.group.get("session") for ref in refs) else RANDOM


def group_digests(by: str, refs: Iterable[DischargeRef]) -> set[str]:
    """Short digests of the names of some recordings' groups; nothing for ``random``."""
    if by == RANDOM:
        return set()
    return {digest(f"{by}:{ref.group[by]}") for ref in refs if ref.group.get(by)}


def digest(text: str) -> str:
    """The first 16 hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def has_any(store: DischargeStore, ref: DischargeRef, modalities: Sequence[str]) -> bool:
    """Whether a recording has one of some modalities."""
    return ("image" in modalities and store.has_image(ref)) or (
        "series" in modalities and store.counts(ref) is not None
    )
