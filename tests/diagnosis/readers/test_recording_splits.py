"""Divisions of recordings: no shared group, classes alike, refusals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from chiasm.diagnosis.readers.source import KINDS, RecordingRef
from chiasm.diagnosis.readers.splits import (
    RecordingSplit,
    check_groups,
    given_split,
    leave_one_out,
    split_recordings,
)
from chiasm.errors import ConfigurationError, SplitError


def recording(number: int, label: int | None, split: str = "", **group: str) -> RecordingRef:
    kind = "" if label is None else KINDS[label]
    return RecordingRef(
        source=f"{number:04d}.png", files={}, label=label, kind=kind, group=group, split=split
    )


def campaign(sessions=20, each=6, equipment=4) -> list[RecordingRef]:
    """Sessions of one class each, at several kinds of equipment."""
    refs = []
    for session in range(sessions * 5):
        group = {"session": f"s{session}", "equipment": f"e{session // 5 % equipment}"}
        refs += [recording(len(refs) + i, session % 5, **group) for i in range(each)]
    return refs


def groups(refs, by) -> set[str]:
    return {ref.group[by] for ref in refs}


def test_sessions_are_never_divided_and_classes_are_alike():
    refs = campaign()
    split = split_recordings(refs, by="session", shares=(0.6, 0.1, 0.3), seed=1)
    assert sorted(ref.source for part in split.lists().values() for ref in part) == [
        ref.source for ref in refs
    ]
    names = [groups(part, "session") for part in split.lists().values()]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    for part, share in zip(split.lists().values(), (0.6, 0.1, 0.3)):
        counts = Counter(ref.label for ref in part)
        assert counts == {label: round(120 * share) for label in range(5)}


def test_groups_of_many_classes_and_sizes_stay_near_the_shares():
    rng = np.random.default_rng(0)
    refs = []
    for session in range(200):
        for label in rng.integers(0, 5, rng.integers(1, 30)):
            refs.append(recording(len(refs), int(label), session=f"s{session}"))
    split = split_recordings(refs, shares=(0.45, 0.05, 0.5))
    total = Counter(ref.label for ref in refs)
    for part, share in zip(split.lists().values(), (0.45, 0.05, 0.5)):
        counts = Counter(ref.label for ref in part)
        for label in range(5):
            assert abs(counts[label] / total[label] - share) < 0.03


@pytest.mark.parametrize("by", ["session", "random"])
def test_a_seed_gives_one_split_whatever_the_order(by):
    refs = campaign()
    split = split_recordings(refs, by=by, seed=3)
    again = split_recordings(refs[::-1], by=by, seed=3)
    assert {ref.source for ref in split.test} == {ref.source for ref in again.test}
    other = split_recordings(refs, by=by, seed=4)
    assert {ref.source for ref in split.test} != {ref.source for ref in other.test}
    assert [ref.source for ref in split.train] == sorted(ref.source for ref in split.train)


def test_random_divides_sessions_and_meets_the_shares():
    refs = campaign()
    split = split_recordings(refs, by="random", shares=(0.5, 0.25, 0.25))
    for part, many in zip(split.lists().values(), (60, 30, 30)):
        assert Counter(ref.label for ref in part) == dict.fromkeys(range(5), many)
    with pytest.raises(SplitError, match=r"The session 's.*' is in the training and"):
        check_groups(split, "session")


def test_recordings_without_a_class_are_divided_too():
    refs = [*campaign(), *(recording(9000 + i, None, session=f"u{i}") for i in range(10))]
    split = split_recordings(refs, shares=(0.5, 0, 0.5))
    assert split.validation == ()
    assert sum(ref.label is None for ref in split.test) == pytest.approx(5, abs=2)


def test_by_equipment_and_leaving_one_out():
    refs = campaign(equipment=5)
    split = split_recordings(refs, by="equipment", shares=(0.6, 0.2, 0.2))
    assert [len(groups(part, "equipment")) for part in split.lists().values()] == [3, 1, 1]
    rounds = dict(leave_one_out(refs, validation_share=0.25))
    assert list(rounds) == ["e0", "e1", "e2", "e3", "e4"]
    for name, split in rounds.items():
        assert groups(split.test, "equipment") == {name} and len(split.test) == 120
        assert name not in groups((*split.train, *split.validation), "equipment")
        assert not groups(split.train, "session") & groups(split.validation, "session")
        assert Counter(ref.label for ref in split.validation) == dict.fromkeys(range(5), 24)


def test_one_group_is_left_out_whatever_another_one_alone_holds():
    refs = [r for r in campaign() if r.label or r.group["equipment"] == "e2"]  # normal at e2 only
    ((name, split),) = leave_one_out(refs, only="e1")
    assert name == "e1" and groups(split.test, "equipment") == {"e1"}
    with pytest.raises(SplitError, match="No recording is of equipment 'e9'; choose from e0, e1"):
        list(leave_one_out(refs, only="e9"))


def test_too_few_groups_are_refused():
    refs = [ref for ref in campaign() if ref.label != 3 or ref.group["session"] in ("s3", "s8")]
    with pytest.raises(SplitError, match="has 2 groups of kind 'session', and needs 3"):
        split_recordings(refs)
    assert split_recordings(refs, shares=(0.5, 0, 0.5)).test
    with pytest.raises(SplitError, match="1 recording, and needs 2: one each for training, test"):
        one = [ref for ref in refs if ref.label != 3]
        split_recordings([*one, refs[18]], by="random", shares=(0.5, 0, 0.5))
    # Three groups for each of two classes, but of one group neither can do without.
    tight = [("a", 0), ("b", 0), ("c", 0), ("c", 1), ("d", 1), ("e", 1)]
    refs = [recording(i, label, session=name) for i, (name, label) in enumerate(tight)]
    split = split_recordings(refs, shares=(0.4, 0.3, 0.3))
    assert all({ref.label for ref in part} == {0, 1} for part in split.lists().values())
    refs = [recording(i, i // 3, session=name) for i, name in enumerate("abcabdabd")]
    with pytest.raises(SplitError, match="No division by session was found"):
        split_recordings([*refs, *(recording(90 + i, 3, session=n) for i, n in enumerate("acd"))])


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: split_recordings([]), SplitError, "no recordings"),
        (
            lambda: split_recordings(campaign(), by="site"),
            SplitError,
            "have no site .groups found: equipment, session.*column .site. of",
        ),
        (
            lambda: split_recordings(campaign(), shares=(0.5, 0.5, 0.5)),
            ConfigurationError,
            "sum to 1",
        ),
        (
            lambda: split_recordings(campaign(), shares=(1.5, -0.5, 0)),
            ConfigurationError,
            "sum to 1",
        ),
        (lambda: list(leave_one_out(campaign(equipment=1))), SplitError, "of one equipment, 'e0'"),
        (
            lambda: list(
                leave_one_out([r for r in campaign() if r.label or r.group["equipment"] == "e2"])
            ),
            SplitError,
            "The class normal was recorded at equipment 'e2' only",
        ),
    ],
)
def test_refusals(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_the_split_that_the_data_name_is_checked():
    refs = [recording(i, 0, name, session=f"s{i}") for i, name in enumerate(("train", "test", ""))]
    split = given_split(refs)
    assert [len(part) for part in split.lists().values()] == [1, 0, 1]
    with pytest.raises(SplitError, match="The session 's0' is in the training and in the test"):
        given_split([*refs, recording(7, 0, "test", session="s0")])
    with pytest.raises(SplitError, match=r"The recording '0000\.png' is in the"):
        check_groups(RecordingSplit((refs[0],), (refs[0],), ()), "session")


def test_a_session_on_both_sides_of_the_equipment_is_refused():
    refs = [*campaign(), recording(9000, 0, session="s0", equipment="e3")]
    with pytest.raises(SplitError, match="The session 's0' is in"):
        list(leave_one_out(refs))
