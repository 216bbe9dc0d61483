"""How many requests are worked on at a time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SATURATED = 0.8


class Turns:
    """Lets a usual number work at a time, and one more while there is no end of requests.

    Of a few that come at once, each is answered sooner where the last one waits for the first to
    end; where they never end, one more keeps the processors from idling.

    Args:
        usual: that work at a time; one more does where all of them have worked for most of the
            last ``seconds``. Of those who wait, any may be next: let no more than one wait.
        seconds: over which is averaged.
        clock: that tells seconds.
    """

    def __init__(
        self, usual: int, *, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._usual = usual
        self._seconds = seconds
        self._clock = clock
        self._working = 0
        self._fullness = 0.0  # share of the last time in which the usual number worked, or more
        self._seen = clock()
        self._changed = threading.Condition()

    @property
    def most(self) -> int:
        """The most that ever work at a time."""
        return self._usual + 1

    def taken(self, work: Callable[[], T]) -> T:
        """Do some work when its turn has come."""
        with self._changed:
            self._look()
            self._changed.wait_for(self._is_free)
            self._working += 1
        try:
            return work()
        finally:
            with self._changed:
                self._look()
                self._working -= 1
                self._changed.notify()

    def _is_free(self) -> bool:
        saturated = self._fullness > _SATURATED
        return self._working < (self.most if saturated else self._usual)

    def _look(self) -> None:
        """Carry the average on to now; the number has been the same since the last look."""
        now = self._clock()
        kept = math.exp(-(now - self._seen) / self._seconds)
        full = self._working >= self._usual
        self._fullness = kept * self._fullness + (1 - kept) * full
        self._seen = now
