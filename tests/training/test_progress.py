"""Lines of progress with a clock and a terminal that are made up."""

from __future__ import annotations

import io

import pytest

from chiasm.training.progress import LOG_SECONDS, Progress, duration, working


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, *, seconds: float, total: int = 100, **more) -> list[str]:
    """Lines of a stage whose units take ``seconds`` each."""
    clock = Clock()
    with Progress("Making", total, stream=stream, clock=clock, **more) as progress:
        for _ in progress.over(range(total - progress.count)):
            clock.seconds += seconds
    return [line for line in stream.getvalue().replace("\r\x1b[2K", "\n").split("\n") if line]


def test_a_log_has_a_line_at_most_every_ten_seconds():
    lines = run(io.StringIO(), seconds=1.0)
    assert len(lines) == 100 / LOG_SECONDS
    assert lines[0] == "Making: 10 of 100 parts, 1 parts/s, about 2 minutes left"
    assert lines[4] == "Making: 50 of 100 parts, 1 parts/s, about 50 s left"
    assert len(run(io.StringIO(), seconds=25.0, total=4)) == 4


def test_a_short_stage_says_nothing_in_a_log():
    assert run(io.StringIO(), seconds=0.05) == []


def test_a_terminal_has_one_line_that_is_rewritten_and_removed():
    terminal = Terminal()
    lines = run(terminal, seconds=0.125)
    assert lines[0] == "Making: 0 of 100 parts"  # what is done is told before its first unit is
    assert len(lines) == 1 + 50
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_every_row_of_a_line_wider_than_the_terminal_is_erased():
    terminal, clock = Terminal(), Clock()
    with Progress("Train", 9, unit="steps", stream=terminal, clock=clock) as progress:
        clock.seconds = 1.0
        progress.update(note="x" * 100)  # in all two rows of 80 columns
        assert "\x1b[1A" not in terminal.getvalue()
        clock.seconds = 2.0
        progress.update(note="x")
        assert terminal.getvalue().count("\r\x1b[2K\x1b[1A\x1b[2KTrain: 2") == 1
    assert terminal.getvalue().endswith("\r\x1b[2K") and terminal.getvalue().count("\x1b[1A") == 1


def test_work_without_units_is_named_on_a_terminal_alone(monkeypatch):
    for stream, shown in ((Terminal(), "\r\x1b[2KWriting ...\r\x1b[2K"), (io.StringIO(), "")):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr("sys.stdout", stream)
        with working("Writing"):
            pass
        assert stream.getvalue() == shown


def test_units_of_an_earlier_run_take_no_part_in_the_rate():
    lines = run(io.StringIO(), seconds=2.0, done=90)
    assert lines == [
        "Making: 95 of 100 parts, 0.5 parts/s, about 10 s left",
        "Making: 100 of 100 parts, 0.5 parts/s, about 0 s left",
    ]


def test_a_budget_limits_the_time_that_is_left():
    lines = run(io.StringIO(), seconds=10.0, total=50, seconds_left=lambda: 60.0)
    assert lines[0].endswith("about 60 s left")
    assert lines[-2].endswith("about 10 s left")


def test_a_note_stays_and_a_summary_ends_the_stage():
    stream, clock = io.StringIO(), Clock()
    progress = Progress("Search", 8, unit="steps", stream=stream, clock=clock)
    clock.seconds = 4.0
    progress.update(8, note="epoch 2: loss 0.1")
    assert stream.getvalue() == ""
    progress.close(summary=True)
    assert stream.getvalue() == "Search: 8 of 8 steps in 4 s, epoch 2: loss 0.1\n"


def test_a_stage_that_did_nothing_has_no_summary():
    stream = io.StringIO()
    Progress("Search", 8, done=8, stream=stream, clock=Clock()).close(summary=True)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.2, "89 s"), (90, "2 minutes"), (5399, "90 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_rounded_as_estimates_are(seconds: float, words: str):
    assert duration(seconds) == words
