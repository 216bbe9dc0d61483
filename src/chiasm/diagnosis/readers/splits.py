"""Training, validation and test recordings: three lists that share no group.

Recordings of one session are nearly copies of each other. Lists that share sessions measure how
well a session is recognised, lists that share equipment say nothing of equipment never seen; a
random split is offered only so that the gap can be printed.
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
_GIVEN = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class RecordingSplit:
    """Who is used for what.

    Attributes:
        train: recordings that the model learns from.
        validation: recordings that settings and stopping are chosen by.
        test: recordings for the final figures only.
    """

    train: tuple[RecordingRef, ...]
    validation: tuple[RecordingRef, ...]
    test: tuple[RecordingRef, ...]

    def lists(self) -> dict[str, tuple[RecordingRef, ...]]:
        """The three lists by name."""
        return dict(zip(LISTS, (self.train, self.validation, self.test)))


def split_recordings(
    refs: Sequence[RecordingRef],
    *,
    by: str = "session",
    shares: tuple[float, float, float] = SHARES,
    seed: int = 42,
) -> RecordingSplit:
    """Divide recordings into training, validation and test, whole groups each, by class alike.

    ``by`` is a kind of group (``session``, ``equipment``, ``insulator`` ...) or ``random``, which
    divides groups. ``shares`` of the recordings, which sum to 1, are met as closely as whole
    groups allow; a share of 0 leaves that list empty. One seed gives one split, whatever the
    order of ``refs``; the lists keep that order. Raises ``SplitError`` where a recording has no
    such group, a class has fewer groups (fewer recordings, if random) than there are lists, or
    no assignment was found that has each class in each list; ``ConfigurationError`` for shares
    that are negative or do not sum to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigurationError(f"shares are {shares}; three parts that sum to 1 were expected.")
    groups = _groups(refs, by)
    lists = [number for number, share in enumerate(shares) if share > 0]
    _check_enough(refs, groups, by, len(lists))
    wanted = np.array([shares[number] for number in lists])
    rng = np.random.default_rng(seed)
    if by == RANDOM:
        place = _dealt(refs, wanted, rng)
    else:
        place = _whole_groups(refs, groups, wanted, rng, by)
    parts: list[tuple[RecordingRef, ...]] = [(), (), ()]
    for position, number in enumerate(lists):
        parts[number] = tuple(ref for ref, at in zip(refs, place) if at == position)
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
    """Yield a split for each group of kind ``by``, in order of name: that group is the test.

    The others are divided into training and validation by ``validation_by``. ``only`` one group's
    split is made where its name is given, for another may be one that cannot be left out. Raises
    ``SplitError`` where there is one such group only or none of that name, a class that is not
    among the others, a session on both sides, or what ``split_recordings`` raises.
    """
    groups = _groups(refs, by)
    names = sorted(set(groups))
    if len(names) < 2:
        raise SplitError(
            f"All recordings are of one {by}, '{''.join(names)}'; at least two are needed to leave "
            "one out."
        )
    if only is not None and only not in names:
        raise SplitError(f"No recording is of {by} '{only}'; there are: {', '.join(names)}.")
    for name in names if only is None else [only]:
        test = tuple(ref for ref, group in zip(refs, groups) if group == name)
        others = [ref for ref, group in zip(refs, groups) if group != name]
        lacking = sorted(_classes(test) - _classes(others))
        if lacking:
            raise SplitError(
                f"The class {_kind(refs, lacking[0])} was recorded at {by} '{name}' only; without "
                "it nothing of that class can be learnt."
            )
        rest = split_recordings(
            others, by=validation_by, shares=(1 - validation_share, validation_share, 0), seed=seed
        )
        split = RecordingSplit(rest.train, rest.validation, test)
        if validation_by != RANDOM:
            check_groups(split, validation_by)
        yield name, split


def given_split(refs: Sequence[RecordingRef], *, by: str = "session") -> RecordingSplit:
    """The split that the data themselves name; ``SplitError`` where it divides a group."""
    parts = {name: tuple(ref for ref in refs if ref.split == name) for name in _GIVEN}
    split = RecordingSplit(*parts.values())
    check_groups(split, by)
    return split


def check_groups(split: RecordingSplit, by: str) -> None:
    """Raise ``SplitError`` where a recording or a group of kind ``by`` stands in two lists."""
    for what, key in (("recording", RANDOM), (by, by)):
        seen: dict[str, str] = {}
        for name, refs in split.lists().items():
            for group in sorted(set(_groups(refs, key))):
                if group in seen:
                    raise SplitError(
                        f"The {what} '{group}' stands in the {seen[group]} and in the {name} list. "
                        "A figure measured on what the model has seen is worthless: keep whole "
                        "groups on one side."
                    )
                seen[group] = name


def _groups(refs: Sequence[RecordingRef], by: str) -> list[str]:
    """The group of each recording; itself, if random."""
    if by == RANDOM:
        return [ref.source for ref in refs]
    lacking = [ref for ref in refs if not ref.group.get(by)]
    if lacking:
        known = ", ".join(sorted({key for ref in refs for key in ref.group})) or "none"
        raise SplitError(
            f"{len(lacking)} of {len(refs)} recordings, {lacking[0].source} first, have no group "
            f"'{by}' (groups found: {known}); name it for all of them, or split by another."
        )
    return [ref.group[by] for ref in refs]


def _classes(refs: Sequence[RecordingRef]) -> set[int]:
    return {ref.label for ref in refs if ref.label is not None}


def _kind(refs: Sequence[RecordingRef], label: int) -> str:
    return next((ref.kind for ref in refs if ref.label == label and ref.kind), str(label))


def _check_enough(refs: Sequence[RecordingRef], groups: Sequence[str], by: str, lists: int) -> None:
    if not refs:
        raise SplitError("There are no recordings to divide.")
    found: dict[int, set[str]] = defaultdict(set)
    for ref, group in zip(refs, groups):
        if ref.label is not None:
            found[ref.label].add(group)
    for label in sorted(found):
        if len(found[label]) < lists:
            what = "recordings" if by == RANDOM else f"groups of kind '{by}'"
            raise SplitError(
                f"The class {_kind(refs, label)} has {len(found[label])} {what}, fewer than the "
                f"{lists} lists it should stand in; record more, or ask for fewer lists."
            )


def _dealt(
    refs: Sequence[RecordingRef], wanted: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The list of each recording, every class divided by itself."""
    place = np.zeros(len(refs), dtype=np.int64)
    members: dict[int, list[int]] = defaultdict(list)
    for i in sorted(range(len(refs)), key=lambda i: refs[i].source):
        label = refs[i].label
        members[-1 if label is None else label].append(i)
    for _, ours in sorted(members.items()):
        counts = np.floor(wanted * len(ours)).astype(int)
        if len(ours) >= len(wanted):
            counts = np.maximum(counts, 1)
        while counts.sum() != len(ours):  # the list that is furthest from its share moves by one
            off = wanted * len(ours) - counts
            if counts.sum() < len(ours):
                counts[np.argmax(off)] += 1
            else:
                counts[np.argmin(np.where(counts > 1, off, np.inf))] -= 1
        place[rng.permutation(ours)] = np.repeat(np.arange(len(wanted)), counts)
    return place


def _whole_groups(
    refs: Sequence[RecordingRef],
    groups: Sequence[str],
    wanted: NDArray[np.float64],
    rng: np.random.Generator,
    by: str,
) -> list[int]:
    """The list of each recording; of several random assignments the one nearest to the shares."""
    names = {group: number for number, group in enumerate(sorted(set(groups)))}
    labels = {label: number for number, label in enumerate(sorted(_classes(refs)))}
    # (groups, classes); the last column counts recordings of no known class.
    counts = np.zeros((len(names), len(labels) + 1))
    for (group, label), many in Counter(zip(groups, (ref.label for ref in refs))).items():
        counts[names[group], -1 if label is None else labels[label]] += many
    aim = wanted[:, None] * counts.sum(axis=0)
    best, distance = None, np.inf
    for _ in range(_ATTEMPTS):
        place, held = _assigned(counts, aim, rng)
        missed = float(np.square((held - aim) / np.maximum(counts.sum(axis=0), 1)).sum())
        if (held[:, :-1] > 0).all() and missed < distance:
            best, distance = place, missed
    if best is None:
        raise SplitError(
            f"No division by {by} was found that has each class in each of {len(wanted)} lists: "
            "too few groups hold the rarer classes. Record more, or ask for fewer lists."
        )
    return [int(best[names[group]]) for group in groups]


def _assigned(
    counts: NDArray[np.float64], aim: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The list of each group, and what each list then holds of each class."""
    place = np.full(len(counts), -1)
    held = np.zeros_like(aim)
    order = rng.permutation(len(counts))
    # Rare classes first: each list gets one of their groups while there is still a choice.
    for column in np.argsort((counts[:, :-1] > 0).sum(axis=0), kind="stable"):
        for number in np.argsort(aim[:, column], kind="stable"):
            free = order[(place[order] < 0) & (counts[order, column] > 0)]
            if held[number, column] == 0 and len(free):
                chosen = free[np.argmin(counts[free].sum(axis=1))]
                place[chosen] = number
                held[number] += counts[chosen]
    rest = order[place[order] < 0]
    total = np.maximum(counts.sum(axis=0), 1)
    for group in rest[np.argsort(-counts[rest].sum(axis=1), kind="stable")]:
        short = (aim - held) / total
        number = int(np.argmax((short * (counts[group] / total)).sum(axis=1)))
        place[group] = number
        held[number] += counts[group]
    return place, held
