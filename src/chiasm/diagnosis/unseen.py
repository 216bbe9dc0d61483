"""Which recordings a trained classifier may be judged by: none that it was trained or tuned on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
class JudgedLists:
    """The recordings of an evaluation, numbered as the model's classes.

    Attributes:
        train: what the model learned from, where the recordings are its run's own; else nothing.
        test: labelled recordings that it has not seen, nor any of their groups.
        notes: what was left out, in sentences.
        not_judged: recordings of unseen groups in which there is nothing that the model looks at.
    """

    train: tuple[RecordingRef, ...]
    test: tuple[RecordingRef, ...]
    notes: tuple[str, ...]
    not_judged: int


def judged_lists(
    run: Path, contract: DiagnosisContract, store: RecordingStore, data: Path | str
) -> JudgedLists:
    """Training and test recordings of a run, or of other data all that it has not seen.

    Raises:
        SplitError: it cannot be told what the model has seen, or the run kept nothing for tests.
        DataError: a class is unknown to the model, or no recording is left.
    """
    config = _settings(run)
    left_out = () if config is None else config.left_out
    refs = labelled(store, contract.kinds)
    by = kind_of_group(contract.split)
    own = own_division(run, store, refs, data)
    notes: list[str] = []
    train: tuple[RecordingRef, ...] = ()
    if own is None:
        candidates = refs
        seen = set(contract.split.training_groups) | _validation_groups(run, contract.split, by)
    else:
        train = own.train
        candidates = [*own.test, *_added(own, refs, by, contract.split, notes)]
        seen = {*contract.split.training_groups, *(contract.split.validation_groups or ())}
        seen |= group_digests(by, (*own.train, *own.validation))
    candidates = [ref for ref in candidates if _kind(ref, contract.kinds) not in left_out]
    unseen = _unseen(candidates, by, seen, notes)
    test = tuple(ref for ref in unseen if has_any(store, ref, contract.modalities))
    blind = len(unseen) - len(test)
    if blind:
        notes.append(
            f"{_counted(blind)} {_has(blind)} no {' and no '.join(contract.modalities)}, so that "
            "there is nothing that the model looks at."
        )
    if not test:
        if own is not None and not own.test:
            raise SplitError(
                f"{run} left no recordings for tests (shares {contract.split.shares}): train it "
                "again with a share for tests, or evaluate it on other data."
            )
        raise DataError(
            f"{data} has no labelled recording of a group that it was not trained on. "
            f"{' '.join(notes)}".strip()
        )
    return JudgedLists(train, test, tuple(notes), blind)


def labelled(store: RecordingStore, kinds: Sequence[str]) -> list[RecordingRef]:
    """The labelled recordings of a store, numbered as the classes of a model.

    Numbers are a table's own, often those of an alphabet of what happens to stand in it; only
    names tell which class is meant. Raises ``DataError`` for names that the model does not know.
    """
    refs = [ref for ref in store.refs if ref.label is not None]
    names = dict.fromkeys(_kind(ref, store.kinds) for ref in refs)
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise DataError(
            f"{store.name} has recordings of {', '.join(unknown)}, and the model knows "
            f"{', '.join(kinds)}. Name the classes as the model does (column 'kind' of a table), "
            "or leave these recordings out."
        )
    return [replace(ref, label=kinds.index(_kind(ref, store.kinds))) for ref in refs]


def own_division(
    run: Path, store: RecordingStore, refs: Sequence[RecordingRef], data: Path | str
) -> RecordingSplit | None:
    """How a run divided those of some recordings that it knows; None where it knows none of them.

    Kept in ``split.json``: divided anew, they would fall otherwise as soon as one is added.
    """
    path, config = run / SPLIT, _settings(run)
    if path.is_file():
        try:
            stored = json.loads(path.read_text())
            listed = [stored[name] for name in LISTS]
            lists = [{os.path.realpath(source) for source in some} for some in listed]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} does not hold the three lists of a run ({error}); train the run again."
            ) from error
    elif config is not None and config.data.resolve() == Path(data).resolve():
        anew = division(store, [ref for ref in store.refs if ref.label is not None], config)
        lists = [{os.path.realpath(r.source) for r in some} for some in anew.lists().values()]
    else:
        return None
    places = [os.path.realpath(ref.source) for ref in refs]
    split = RecordingSplit(
        *(tuple(ref for ref, place in zip(refs, places) if place in own) for own in lists)
    )
    return split if any(split.lists().values()) else None


def kind_of_group(described: SplitDescription) -> str:
    """The kind of group whose digests a contract holds; ``random`` where it holds none."""
    if described.by == RANDOM:
        return RANDOM
    if described.groups_by is not None:
        return described.groups_by
    if described.by == GIVEN:  # contracts did not name it, but it was always the session
        return "session" if described.training_groups else RANDOM
    return described.by


def _added(
    own: RecordingSplit,
    refs: Sequence[RecordingRef],
    by: str,
    described: SplitDescription,
    notes: list[str],
) -> list[RecordingRef]:
    """Recordings that came after training, which may be of groups that were trained on."""
    listed = {ref.source for some in own.lists().values() for ref in some}
    added = [ref for ref in refs if ref.source not in listed]
    if described.by == GIVEN:
        added = [ref for ref in added if ref.split == "test"]
    if added and by == RANDOM:
        notes.append(
            f"{_counted(len(added))} {_has(len(added))} no place in the run's split; without "
            "groups it cannot be told whether the model has seen what they show, and they are "
            "left out."
        )
        return []
    return added


def _unseen(
    refs: Sequence[RecordingRef], by: str, seen: set[str], notes: list[str]
) -> list[RecordingRef]:
    """Those of groups that are not among the seen ones; of a random split all."""
    if by == RANDOM:
        return list(refs)
    named = [ref for ref in refs if ref.group.get(by)]
    if len(named) < len(refs):
        count = len(refs) - len(named)
        notes.append(
            f"{_counted(count)} {_has(count)} no {by}, so that it cannot be told whether the model "
            "has seen it; they are left out."
        )
    unseen = [ref for ref in named if not group_digests(by, [ref]) & seen]
    if len(unseen) < len(named):
        count = len(named) - len(unseen)
        notes.append(
            f"The model was trained or tuned on the {by} of {_counted(count)}; they are left out."
        )
    return unseen


def _validation_groups(run: Path, described: SplitDescription, by: str) -> set[str]:
    """Digests of the groups that epoch, temperatures and bounds were chosen by.

    Contracts of before they were kept do not name them; then the run's own data may tell.
    """
    if by == RANDOM:
        raise SplitError(
            "The model was trained on a random split, or on a given one without sessions, so that "
            "sessions cannot be told apart from those it has seen; evaluate it on the data and in "
            "the folder that it was trained in."
        )
    if described.validation_groups is not None:
        return set(described.validation_groups)
    config = _settings(run)
    if config is not None and (run / SPLIT).is_file() and config.data.exists():
        store = open_store(config.data, cache=config.cache)
        own = own_division(run, store, store.refs, config.data)
        if own is not None and len(own.validation) == described.validation_samples:
            return group_digests(by, own.validation)
    raise SplitError(
        f"The model's contract does not name the groups ({by}) that it was tuned on, as those of "
        "earlier versions do not, and its own data are not there to tell. Evaluate the run where "
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
