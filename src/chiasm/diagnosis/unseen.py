"""The recordings that a trained classifier is evaluated on: unseen in training and tuning."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import DiagnosisContract, SplitDescription
from chiasm.diagnosis.datamodule import GIVEN, division, group_digests, has_any
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.splits import LISTS, RANDOM, RecordingSplit
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.errors import DataError, SplitError

SPLIT = "split.json"


@dataclass(frozen=True, eq=False)
class EvaluationSplit:
    """The recordings of an evaluation, labelled by the model's classes.

    Attributes:
        train: recordings that the model was trained on, if the data are its run's; else none.
        test: labelled recordings of groups that the model was neither trained nor tuned on.
        notes: a sentence on each kind of recordings that is left out.
        not_scored: recordings of unseen groups that have none of the model's modalities.
        unknown: recordings of classes that the model was not trained on, of any group; a label is
            a position in ``unknown_kinds``.
        unknown_kinds: names of these classes.
    """

    train: tuple[RecordingRef, ...]
    test: tuple[RecordingRef, ...]
    notes: tuple[str, ...]
    not_scored: int
    unknown: tuple[RecordingRef, ...] = ()
    unknown_kinds: tuple[str, ...] = ()


def evaluation_split(
    run: Path, contract: DiagnosisContract, store: RecordingStore, data: Path | str
) -> EvaluationSplit:
    """Return training and test recordings of a run, or the unseen recordings of other data.

    Raises:
        SplitError: it is unknown what the model was trained on, or the run has no test recordings.
        DataError: the name of a class is nearly one of the model's, or no recording is left.
    """
    config = _settings(run)
    left_out = () if config is None else config.left_out
    refs, others = relabelled(store, contract.kinds)
    others += [ref for ref in refs if ref.kind in left_out]
    unknown, unknown_kinds = _of_other_classes(others, store, contract.modalities)
    description, kind = contract.split, contract.split.groups_by
    stored = stored_split(run, store, refs, data)
    notes: list[str] = []
    train: tuple[RecordingRef, ...] = ()
    if stored is None:
        candidates = refs
        seen = {*description.training_groups, *_validation_groups(run, contract)}
    else:
        train = stored.train
        candidates = [*stored.test, *_added(stored, refs, description, notes)]
        seen = {*description.training_groups, *(description.validation_groups or ())}
        seen |= group_digests(kind, (*stored.train, *stored.validation))
    candidates = [ref for ref in candidates if ref.kind not in left_out]
    unseen = _unseen(candidates, kind, seen, notes)
    test = tuple(ref for ref in unseen if has_any(store, ref, contract.modalities))
    not_scored = len(unseen) - len(test)
    if not_scored:
        notes.append(
            f"{_counted(not_scored)} {_has(not_scored)} no {' and no '.join(contract.modalities)}, "
            "which the model needs."
        )
    if unknown:
        notes.append(
            f"{_counted(len(unknown))} {'is' if len(unknown) == 1 else 'are'} of "
            f"{', '.join(unknown_kinds)}, which the model was not trained on: the right answer is "
            "'unknown'. Where the model has such a class under another name, give it that name."
        )
    if not test:
        if stored is not None and not stored.test:
            raise SplitError(
                f"{run} left no recordings for tests (shares {description.shares}): train it "
                "again with a share for tests, or evaluate it on other data."
            )
        remedy = ""
        if unknown:
            trained = [kind for kind in contract.kinds if kind not in left_out]
            remedy = (
                f"Add recordings of {', '.join(trained)}: how well the unknown ones are told is "
                "measured against them. 'chiasm predict' says what the model takes these for."
            )
        raise DataError(
            f"{data} has no labelled recording of a trained class and of a group that the model "
            f"was not trained on. {' '.join((*notes, remedy))}".strip()
        )
    return EvaluationSplit(train, test, tuple(notes), not_scored, unknown, unknown_kinds)


def relabelled(
    store: RecordingStore, kinds: Sequence[str]
) -> tuple[list[RecordingRef], list[RecordingRef]]:
    """Return a store's labelled recordings of a model's classes, and those of all other classes.

    The numbers in a store depend on which classes it holds; only names tell which class is meant.
    The former are numbered as the classes of the model, the latter as those of the store.

    Raises:
        DataError: a name is nearly one of the model's: whether it means that class is unknown.
    """
    refs = [
        replace(ref, kind=_kind(ref, store.kinds)) for ref in store.refs if ref.label is not None
    ]
    for name in dict.fromkeys(ref.kind for ref in refs):
        near = _nearly(name, kinds)
        if near is not None:
            raise DataError(
                f"{store.name} has recordings of '{name}', and the model knows '{near}'. If that "
                f"is the same class, name it '{near}' (column 'kind' of a table); if it is another "
                "one, give it a name that cannot be taken for that."
            )
    known = [replace(ref, label=kinds.index(ref.kind)) for ref in refs if ref.kind in kinds]
    return known, [ref for ref in refs if ref.kind not in kinds]


# Two names this alike (of difflib) are one with a slip of the pen.
_ALIKE = 0.9


def _nearly(name: str, kinds: Sequence[str]) -> str | None:
    """Return the class whose name differs from this one in spelling alone, if there is one."""
    if name in kinds:
        return None
    plain = {_spelling(kind): kind for kind in kinds}
    near = get_close_matches(_spelling(name), plain, n=1, cutoff=_ALIKE)
    # Names that differ in a number are told apart on purpose.
    numbers = re.findall(r"\d+", name)
    return next((plain[n] for n in near if re.findall(r"\d+", plain[n]) == numbers), None)


def _spelling(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def _of_other_classes(
    refs: Sequence[RecordingRef], store: RecordingStore, modalities: Sequence[str]
) -> tuple[tuple[RecordingRef, ...], tuple[str, ...]]:
    """Return the recordings of untrained classes that have a modality, and the classes' names.

    Their groups do not matter: no recording of the class was seen in training.
    """
    usable = [ref for ref in refs if has_any(store, ref, modalities)]
    names = [ref.kind for ref in usable]
    kinds = tuple(dict.fromkeys(names))
    numbered = (replace(ref, label=kinds.index(name)) for ref, name in zip(usable, names))
    return tuple(numbered), kinds


def stored_split(
    run: Path, store: RecordingStore, refs: Sequence[RecordingRef], data: Path | str
) -> RecordingSplit | None:
    """Return how a run divided some recordings; None if it knows none of them.

    The division is read from ``split.json``: a new one would differ as soon as one recording is
    added.
    """
    path, config = run / SPLIT, _settings(run)
    if path.is_file():
        try:
            content = json.loads(path.read_text())
            sources = [content[name] for name in LISTS]
            lists = [{os.path.realpath(source) for source in some} for some in sources]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} does not hold the three lists of a run ({error}); train the run again."
            ) from error
    elif config is not None and config.data.resolve() == Path(data).resolve():
        repeated = division(store, [ref for ref in store.refs if ref.label is not None], config)
        lists = [{os.path.realpath(r.source) for r in some} for some in repeated.lists().values()]
    else:
        return None
    paths = [os.path.realpath(ref.source) for ref in refs]
    split = RecordingSplit(
        *(tuple(ref for ref, path in zip(refs, paths) if path in sources) for sources in lists)
    )
    return split if any(split.lists().values()) else None


def _added(
    stored: RecordingSplit,
    refs: Sequence[RecordingRef],
    description: SplitDescription,
    notes: list[str],
) -> list[RecordingRef]:
    """Return recordings that were added after training; they may be of training groups."""
    listed = {ref.source for some in stored.lists().values() for ref in some}
    added = [ref for ref in refs if ref.source not in listed]
    if description.by == GIVEN:
        added = [ref for ref in added if ref.split == "test"]
    if added and description.groups_by == RANDOM:
        notes.append(
            f"{_counted(len(added))} {_has(len(added))} no place in the run's split; without "
            "groups it is unknown whether the model was trained on the same session. They are "
            "left out."
        )
        return []
    return added


def _unseen(
    refs: Sequence[RecordingRef], kind: str, seen: set[str], notes: list[str]
) -> list[RecordingRef]:
    """Return the recordings whose group is not among the seen ones; all for a random split."""
    if kind == RANDOM:
        return list(refs)
    grouped = [ref for ref in refs if ref.group.get(kind)]
    if len(grouped) < len(refs):
        count = len(refs) - len(grouped)
        notes.append(
            f"{_counted(count)} {_has(count)} no {kind}, so that it is unknown whether the model "
            "was trained on it. They are left out."
        )
    unseen = [ref for ref in grouped if not group_digests(kind, [ref]) & seen]
    if len(unseen) < len(grouped):
        count = len(grouped) - len(unseen)
        notes.append(
            f"The model was trained or tuned on the {kind} of {_counted(count)}; they are left out."
        )
    return unseen


def _validation_groups(run: Path, contract: DiagnosisContract) -> set[str]:
    """Return digests of the groups by which epoch, temperatures and bounds were chosen.

    The first contracts do not list them; then the run's own data may tell.
    """
    description, kind = contract.split, contract.split.groups_by
    if kind == RANDOM:
        raise SplitError(
            "The model was trained on a random split, or on a given one without sessions, so that "
            "it is unknown which sessions it was trained on; evaluate it on the data and in the "
            "folder that it was trained in."
        )
    if description.validation_groups is not None:
        return set(description.validation_groups)
    config = _settings(run)
    if config is not None and (run / SPLIT).is_file() and config.data.exists():
        store = open_store(config.data, cache=config.cache)
        stored = stored_split(run, store, store.refs, config.data)
        if stored is not None and len(stored.validation) == contract.validation_samples:
            return group_digests(kind, stored.validation)
    raise SplitError(
        f"The model's contract does not name the groups ({kind}) that it was tuned on, as those of "
        "earlier versions do not, and its own data are gone. Evaluate the run where "
        "its data lie, or train it again."
    )


def _kind(ref: RecordingRef, kinds: Sequence[str]) -> str:
    assert ref.label is not None
    return kinds[ref.label]


def _settings(run: Path) -> DiagnosisConfig | None:
    path = run / "config.yaml"
    return DiagnosisConfig.make(file=path) if path.exists() else None


def _counted(count: int) -> str:
    return f"{count:,} recording{'' if count == 1 else 's'}"


def _has(count: int) -> str:
    return "has" if count == 1 else "have"
