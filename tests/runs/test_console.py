from __future__ import annotations

import pytest

from chiasm.errors import DataError
from chiasm.runs.console import MAX_LISTED, failure_reason, report_failures
from chiasm.samples import Verdict


def failed(source: str, error: str) -> Verdict:
    return Verdict(score=0.0, p_value=1.0, defective=None, source=source, error=error)


@pytest.mark.parametrize(
    ("source", "error", "expected"),
    [
        ("a.png", "It is empty.", "a.png: It is empty."),
        ("a.png", "a.png is empty.", "a.png is empty."),
        ("", "It is empty.", "It is empty."),
    ],
)
def test_a_reason_names_its_source_once(source: str, error: str, expected: str):
    assert failure_reason(failed(source, error)) == expected


def test_the_first_failures_are_listed_and_the_rest_counted(capsys: pytest.CaptureFixture[str]):
    report_failures([f"part {n} failed" for n in range(MAX_LISTED + 2)], succeeded=1, noun="parts")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [f"part {n} failed" for n in range(MAX_LISTED)]
    assert lines[-1] == "2 more parts were not evaluated."


def test_nothing_judged_is_an_error():
    with pytest.raises(DataError, match="None of the 1 parts could be evaluated: it is empty"):
        report_failures(["it is empty"], succeeded=0, noun="parts")
    with pytest.raises(DataError, match="there was none"):
        report_failures([], succeeded=0, noun="parts")
