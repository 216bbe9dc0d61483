"""How far a stage has come: count, rate and estimated time left, on a terminal or in a log.

How much is said to people is one setting of the process, the ``volume``.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Literal, Self, TextIO, TypeVar

from rich.cells import cell_len

LOG_SECONDS = 10.0  # between two lines of a log
VERBOSE_SECONDS = 2.0  # the same, where more is to be said
TERMINAL_SECONDS = 0.2  # between two states of the line on a terminal
ERASE = "\r\x1b[2K"
ERASE_ABOVE = "\x1b[1A\x1b[2K"
USUAL_COLUMNS = 80  # of a terminal that does not say how wide it is

Item = TypeVar("Item")
Volume = Literal["quiet", "normal", "verbose"]
_volume: Volume = "normal"


def volume() -> Volume:
    """Return how much this process says: no line for people, as usual, or with times."""
    return _volume


@contextmanager
def at_volume(wanted: Volume) -> Iterator[None]:
    """Say less or more for a while, see ``volume``."""
    global _volume
    before, _volume = _volume, wanted
    try:
        yield
    finally:
        _volume = before


class Progress:
    """A line that says how far a stage has come.

    On a terminal the line is there from the beginning, is rewritten, and is removed at the end; one
    wider than the terminal takes several rows. Elsewhere a line is printed at most every ten
    seconds (verbose: every two), and none for a stage that takes less. Quiet prints nothing.

    Args:
        stage: what is done, as the line's first words.
        total: number of units; 0 where it is unknown.
        unit: plural noun of what is counted.
        done: units that an earlier run has done; they take no part in the rate.
        seconds_left: further limit of the time left, e.g. of a budget.
        stream: None takes standard error if it is a terminal, else standard output.
        clock: returns seconds.

    Example:
        >>> clock = iter([0.0, 60.0, 60.0])
        >>> progress = Progress("Preparing", 40, clock=lambda: next(clock))
        >>> progress.update(30)
        Preparing: 30 of 40 parts, 0.5 parts/s, about 20 s left
    """

    def __init__(
        self,
        stage: str,
        total: int,
        *,
        unit: str = "parts",
        done: int = 0,
        seconds_left: Callable[[], float] = lambda: math.inf,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stage, self.unit = stage, unit
        self.total, self.count = total, done
        self.note = ""
        self._before = done
        self._seconds_left = seconds_left
        self._stream = stream
        self._clock = clock
        self._started = self._shown = clock()
        self._rows = 1  # of the terminal that the line takes
        if (output := self._output()).isatty():
            self._write(output, self.text(self._started))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def rate(self) -> float:
        """Units per second of this run; 0 before the first."""
        return self._rate(self._clock())

    def update(self, count: int = 1, *, note: str = "") -> None:
        """Count further units, and show the line if it is time to.

        Args:
            count: of units.
            note: figures to show after the time left; they stay until others come.
        """
        self.count += count
        self.note = note or self.note
        now = self._clock()
        stream = self._output()
        seconds = VERBOSE_SECONDS if _volume == "verbose" else LOG_SECONDS
        if now - self._shown >= (TERMINAL_SECONDS if stream.isatty() else seconds):
            self._shown = now
            self._write(stream, self.text(now))

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, and count each when it is done."""
        for item in items:
            yield item
            self.update()

    def text(self, now: float) -> str:
        """Return the line.

        Args:
            now: seconds of the clock.
        """
        if not (self.total or self.count):
            return f"{self.stage} ..."
        words = [self._counted]
        if rate := self._rate(now):
            words.append(f"{rate:.3g} {self.unit}/s")
        if rate and self.total:
            left = min((self.total - self.count) / rate, self._seconds_left())
            words.append(f"about {duration(left)} left")
        return f"{self.stage}: {', '.join([*words, *self._notes])}"

    def close(self, *, summary: bool = False) -> None:
        """Remove the line from a terminal.

        Args:
            summary: whether to print what was done, how long it took and the last figures.
        """
        stream = self._output()
        if stream.isatty():
            self._write(stream, "")
        if summary and self.count > self._before:
            words = [self._counted]
            words.append(f"in {duration(self._clock() - self._started)}")
            self._write(stream, f"{self.stage}: {', '.join([' '.join(words), *self._notes])}")
            if stream.isatty() and _volume != "quiet":
                stream.write("\n")

    @property
    def _counted(self) -> str:
        whole = f" of {self.total}" if self.total else ""
        return f"{self.count}{whole} {self.unit}"

    @property
    def _notes(self) -> list[str]:
        return [self.note] if self.note else []

    def _rate(self, now: float) -> float:
        seconds = now - self._started
        return (self.count - self._before) / seconds if seconds > 0 else 0.0

    def _output(self) -> TextIO:
        # Looked up each time: a test or a notebook may have replaced it.
        return self._stream or (sys.stderr if sys.stderr.isatty() else sys.stdout)

    def _write(self, stream: TextIO, text: str) -> None:
        if _volume == "quiet":
            return
        if stream.isatty():
            stream.write(f"{ERASE}{(self._rows - 1) * ERASE_ABOVE}{text}")
            self._rows = max(1, math.ceil(cell_len(text) / _columns(stream)))
        else:
            stream.write(f"{text}\n")
        stream.flush()


@contextmanager
def working(stage: str) -> Iterator[None]:
    """Show on a terminal what is done while it is done; a log gets no line.

    Args:
        stage: work of seconds that has no units to count, e.g. ``"Writing the report"``.
    """
    with Progress(stage, 0):
        yield


def _columns(stream: TextIO) -> int:
    """Return the width of a terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):  # no device behind it, as in a notebook
        return USUAL_COLUMNS


def counted(
    stage: str, items: Iterable[Item], *, total: int | None = None, unit: str = "parts"
) -> Iterator[Item]:
    """Yield items, and show a line of progress while they are worked on.

    Args:
        stage: what is done.
        items: with a length, or of which there are ``total``.
        total: number of items; 0 where it is unknown.
        unit: plural noun of what is counted.

    Example:
        >>> list(counted("Reading", [1, 2]))
        [1, 2]
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    with Progress(stage, total, unit=unit) as line:
        yield from line.over(items)


def duration(seconds: float) -> str:
    """Return a time span in words, rounded as an estimate is.

    Example:
        >>> duration(34), duration(200), duration(5400)
        ('34 s', '3 minutes', '1.5 hours')
    """
    if seconds < 90:
        return f"{round(max(seconds, 0.0))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
