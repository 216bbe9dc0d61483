"""Training, validation and test recordings: three lists that share no group.

Recordings of one session are near copies. Lists that share sessions measure how well a session is
recognised; lists that share equipment do not measure unseen equipment. A random split exists only
to measure the gap.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.errors import ConfigurationError, SplitError

RANDOM = "random"
LISTS = ("training", "validation", "test")
SHARES = (0.45, 0.05, 0.5)
_ATTEMPTS = 16
_BY_RECORDING = (
    f"split_by={RANDOM} divides recordings one by one: near copies are then on both sides, and all "
    "figures flatter."
)
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class RecordingSplit:
    """A division of recordings.

    Attributes:
        train: recordings on which the model is trained.
        validation: recordings that select settings and the stopping time.
        test: recordings for the final figures only.
    """

    train: tuple[RecordingRef, ...]
    validation: tuple[RecordingRef, ...]
    test: tuple[RecordingRef, ...]

    def lists(self) -> dict[str, tuple[RecordingRef, ...]]:
        """Return the three lists by name."""
        return dict(zip(LISTS, (self.train, self.validation, self.test)))


def split_recordings(
    refs: Sequence[RecordingRef],
    *,
    by: str = "session",
    shares: tuple[float, float, float] = SHARES,
    seed: int = 42,
) -> RecordingSplit:
    """Divide recordings by whole groups into training, validation and test, stratified by class.

    ``by`` is a kind of group (``session``, ``equipment``, ``insulator`` ...) or ``random``, which
    divides groups. ``shares`` of the recordings, which sum to 1, are met as closely as whole
    groups allow; a share of 0 leaves that list empty. The split depends on the seed, not on the
    order of ``refs``; the lists keep that order. Raises ``SplitError`` if a recording has no such
    group, a class has fewer groups (recordings, if random) than there are lists, or no assignment
    was found that has each class in each list; ``ConfigurationError`` for shares that are negative
    or do not sum to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigurationError(f"shares are {shares}; three shares that sum to 1 were expected.")
    groups = _groups(refs, by)
    lists = [number for number, share in enumerate(shares) if share > 0]
    _check_enough(refs, groups, by, [LISTS[number] for number in lists])
    target_shares = np.array([shares[number] for number in lists])
    rng = np.random.default_rng(seed)
    if by == RANDOM:
        assignment = _assign_recordings(refs, target_shares, rng)
    else:
        assignment = _assign_by_group(refs, groups, target_shares, rng, by)
    parts: list[tuple[RecordingRef, ...]] = [(), (), ()]
    for position, number in enumerate(lists):
        parts[number] = tuple(ref for ref, at in zip(refs, assignment) if at == position)
    split = RecordingSplit(*parts)
    if by != RANDOM:
        check_groups(split, by)
    return split


def leave_one_out(
    refs: Sequence[RecordingRef],
    *,
    by: str = "equipment",
    validation_by: str = "session",
    validation_share: float = 0.1,
    seed: int = 42,
    only: str | None = None,
) -> Iterator[tuple[str, RecordingSplit]]:
    """Yield a split for each group of kind ``by``, in order of name: that group is the test list.

    The others are divided into training and validation by ``validation_by``. With ``only``, the
    split of the group of that name is yielded alone, even if other groups cannot be left out.
    Raises ``SplitError`` if there is only one such group, none of that name, a class that the
    others lack, or a session in two lists, and as ``split_recordings`` does.
    """
    groups = _groups(refs, by)
    names = sorted(set(groups))
    if len(names) < 2:
        raise SplitError(
            f"All recordings are of one {by}, '{''.join(names)}'; at least two are needed to leave "
            "one out.",
            see="too-few-sessions",
        )
    if only is not None and only not in names:
        raise SplitError(f"No recording is of {by} '{only}'; choose from {', '.join(names)}.")
    for name in names if only is None else [only]:
        test = tuple(ref for ref, group in zip(refs, groups) if group == name)
        others = [ref for ref, group in zip(refs, groups) if group != name]
        missing = sorted(_classes(test) - _classes(others))
        if missing:
            raise SplitError(
                f"The class {_kind(refs, missing[0])} was recorded at {by} '{name}' only; without "
                "it there is no training recording of that class."
            )
        rest = split_recordings(
            others, by=validation_by, shares=(1 - validation_share, validation_share, 0), seed=seed
        )
        split = RecordingSplit(rest.train, rest.validation, test)
        if validation_by != RANDOM:
            check_groups(split, validation_by)
        yield name, split


def given_split(refs: Sequence[RecordingRef], *, by: str = "session") -> RecordingSplit:
    """Return the split that the data name; raise ``SplitError`` if it divides a group."""
    parts = {name: tuple(ref for ref in refs if ref.split == name) for name in _SPLITS}
    split = RecordingSplit(*parts.values())
    check_groups(split, by)
    return split


def check_groups(split: RecordingSplit, by: str) -> None:
    """Raise ``SplitError`` if a recording or a group of kind ``by`` is in two lists."""
    for kind, key in (("recording", RANDOM), (by, by)):
        list_of: dict[str, str] = {}
        for name, refs in split.lists().items():
            for group in sorted(set(_groups(refs, key))):
                if group in list_of:
                    raise SplitError(
                        f"The {kind} '{group}' is in the {list_of[group]} and in the {name} list. "
                        "Figures of recordings that the model has seen are invalid: keep whole "
                        "groups in one list.",
                        see="overlap",
                    )
                list_of[group] = name


def _groups(refs: Sequence[RecordingRef], by: str) -> list[str]:
    """Return the group of each recording; the recording itself, if random."""
    if by == RANDOM:
        return [ref.source for ref in refs]
    ungrouped = [ref for ref in refs if not ref.group.get(by)]
    if ungrouped:
        present = ", ".join(sorted({key for ref in refs for key in ref.group})) or "none"
        folder = f"Put the files of each {by} into a folder of its own below that of the class, or "
        name = "name" if by == "session" else "Name"
        raise SplitError(
            f"{len(ungrouped)} of {len(refs)} recordings, {ungrouped[0].source} first, have no "
            f"{by} (groups found: {present}). {folder * (by == 'session')}{name}"
            f" it in the column '{by}' of a table. {_BY_RECORDING}",
            see="no-sessions",
        )
    return [ref.group[by] for ref in refs]


def _classes(refs: Sequence[RecordingRef]) -> set[int]:
    return {ref.label for ref in refs if ref.label is not None}


def _kind(refs: Sequence[RecordingRef], label: int) -> str:
    return next((ref.kind for ref in refs if ref.label == label and ref.kind), str(label))


def _check_enough(
    refs: Sequence[RecordingRef], groups: Sequence[str], by: str, lists: Sequence[str]
) -> None:
    if not refs:
        raise SplitError("There are no recordings to divide.")
    groups_of: dict[int, set[str]] = defaultdict(set)
    for ref, group in zip(refs, groups):
        if ref.label is not None:
            groups_of[ref.label].add(group)
    for label, names in sorted(groups_of.items()):
        if len(names) < len(lists):
            kind = _kind(refs, label)
            plural = "s" * (len(names) != 1)
            unit = f"recording{plural}" if by == RANDOM else f"group{plural} of kind '{by}'"
            remedy = f"Record more, or train without the class: left_out={kind}."
            if by != RANDOM:
                remedy += f" {_BY_RECORDING}"
            raise SplitError(
                f"The class {kind} has {len(names)} {unit}, and needs "
                f"{len(lists)}: one each for {', '.join(lists)}. {remedy}",
                see="too-few-sessions",
            )


def _assign_recordings(
    refs: Sequence[RecordingRef], shares: NDArray[np.float64], rng: np.random.Generator
) -> list[int]:
    """Return the list of each recording; each class is divided separately."""
    assignment = np.zeros(len(refs), dtype=np.int64)
    members: dict[int, list[int]] = defaultdict(list)
    for i in sorted(range(len(refs)), key=lambda i: refs[i].source):
        label = refs[i].label
        members[-1 if label is None else label].append(i)
    for _, indices in sorted(members.items()):
        counts = np.floor(shares * len(indices)).astype(int)
        if len(indices) >= len(shares):
            counts = np.maximum(counts, 1)
        while counts.sum() != len(indices):  # changes the list that is furthest from its share
            deviation = shares * len(indices) - counts
            if counts.sum() < len(indices):
                counts[np.argmax(deviation)] += 1
            else:
                counts[np.argmin(np.where(counts > 1, deviation, np.inf))] -= 1
        assignment[rng.permutation(indices)] = np.repeat(np.arange(len(shares)), counts)
    return assignment.tolist()


def _assign_by_group(
    refs: Sequence[RecordingRef],
    groups: Sequence[str],
    shares: NDArray[np.float64],
    rng: np.random.Generator,
    by: str,
) -> list[int]:
    """Return the list of each recording: of several random assignments, that nearest the shares."""
    names = {group: number for number, group in enumerate(sorted(set(groups)))}
    labels = {label: number for number, label in enumerate(sorted(_classes(refs)))}
    # (groups, classes); the last column counts recordings of no known class.
    counts = np.zeros((len(names), len(labels) + 1))
    for (group, label), count in Counter(zip(groups, (ref.label for ref in refs))).items():
        counts[names[group], -1 if label is None else labels[label]] += count
    target = shares[:, None] * counts.sum(axis=0)
    best, best_error = None, np.inf
    for _ in range(_ATTEMPTS):
        assignment, assigned = _assign_groups(counts, target, rng)
        error = float(np.square((assigned - target) / np.maximum(counts.sum(axis=0), 1)).sum())
        if (assigned[:, :-1] > 0).all() and error < best_error:
            best, best_error = assignment, error
    if best is None:
        raise SplitError(
            f"No division by {by} was found that has each class in each of {len(shares)} lists "
            "(training, validation, test): too few groups hold the rarer classes. Record more, or "
            f"do without a list: shares=0.8,0.2,0 keeps none for tests. {_BY_RECORDING}",
            see="too-few-sessions",
        )
    return [int(best[names[group]]) for group in groups]


def _assign_groups(
    counts: NDArray[np.float64], target: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the list of each group, and the recordings of each class in each list."""
    assignment = np.full(len(counts), -1)
    assigned = np.zeros_like(target)
    order = rng.permutation(len(counts))
    # Rare classes first: each list gets one of their groups while there is a choice.
    for column in np.argsort((counts[:, :-1] > 0).sum(axis=0), kind="stable"):
        for number in np.argsort(target[:, column], kind="stable"):
            free = order[(assignment[order] < 0) & (counts[order, column] > 0)]
            if assigned[number, column] == 0 and len(free):
                smallest = free[np.argmin(counts[free].sum(axis=1))]
                assignment[smallest] = number
                assigned[number] += counts[smallest]
    rest = order[assignment[order] < 0]
    total = np.maximum(counts.sum(axis=0), 1)
    for group in rest[np.argsort(-counts[rest].sum(axis=1), kind="stable")]:
        deficit = (target - assigned) / total
        number = int(np.argmax((deficit * (counts[group] / total)).sum(axis=1)))
        assignment[group] = number
        assigned[number] += counts[group]
    return assignment, assigned
