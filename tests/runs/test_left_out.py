"""A few damaged samples do not stop a run; many do, with their list."""

from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.errors import DataError
from chiasm.runs.left_out import LEFT_OUT, check_left_out, left_out_note
from chiasm.samples import Problem


def problems(count: int) -> list[Problem]:
    return [Problem(f"{i}.png", f"{i}.png is empty.", left_out=True) for i in range(count)]


@pytest.mark.parametrize(("count", "total"), [(1, 3), (10, 100), (2, 20)])
def test_a_few_are_left_out_listed_and_recorded(tmp_path: Path, capsys, count: int, total: int):
    check_left_out(problems(count), total=total, noun="parts", folder=tmp_path)
    printed = capsys.readouterr().out
    assert f"{count} of {total} parts" in printed and "0.png is empty." in printed
    note = left_out_note(tmp_path)
    assert note is not None and f"{count} of {total} parts" in note and "0.png is empty." in note


@pytest.mark.parametrize(("count", "total"), [(2, 3), (11, 100), (3, 20)])
def test_many_end_the_run_with_their_list(tmp_path: Path, count: int, total: int):
    with pytest.raises(DataError, match=f"{count} of {total} parts") as caught:
        check_left_out(problems(count), total=total, noun="parts", folder=tmp_path)
    assert all(f"{i}.png is empty." in str(caught.value) for i in range(count))
    assert not (tmp_path / LEFT_OUT).exists()


def test_strict_leaves_out_none():
    with pytest.raises(DataError, match="--strict"):
        check_left_out(problems(1), total=1000, noun="parts", strict=True)


def test_what_was_mended_is_no_longer_recorded(tmp_path: Path):
    check_left_out(problems(1), total=50, noun="parts", folder=tmp_path)
    check_left_out([], total=50, noun="parts", folder=tmp_path)
    assert left_out_note(tmp_path) is None
