"""How many requests may wait, and how many bytes they may hold."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from chiasm.service.refusals import Refusal

# Weight of the newest request in the running mean of their time.
_NEWEST = 0.1


class Admission:
    """The bounded queue; all of it runs in the event loop's thread.

    Args:
        places: requests that may be read, wait or be worked on at a time.
        held_bytes: that their bodies may hold together.
        workers: requests that are worked on at a time.
    """

    def __init__(self, *, places: int, held_bytes: int, workers: int) -> None:
        self.places = places
        self.held_bytes = held_bytes
        self._workers = workers
        self._taken = 0
        self._bytes = 0
        self._seconds = 0.1

    @property
    def depth(self) -> int:
        """Requests that hold a place."""
        return self._taken

    def enter(self) -> Place:
        """Take a place; raises ``Refusal`` 429 where there is none."""
        if self._taken >= self.places:
            raise self._full(f"{self._taken} requests are waiting already")
        self._taken += 1
        return Place(self)

    def hold(self, size: int) -> None:
        """Count bytes of a body; raises ``Refusal`` 429 where there is no room for them."""
        if self._bytes + size > self.held_bytes:
            raise self._full(f"waiting requests hold {self._bytes / 2**20:.0f} MB already")
        self._bytes += size

    def leave(self, held: int, seconds: float | None) -> None:
        """Give a place and its bytes back; ``seconds`` is what the work alone took."""
        self._taken -= 1
        self._bytes -= held
        if seconds is not None:
            self._seconds += _NEWEST * (seconds - self._seconds)

    def _full(self, why: str) -> Refusal:
        wait = max(1, math.ceil(self._taken * self._seconds / self._workers))
        return Refusal(
            429,
            "busy",
            f"The service is busy: {why}. Send the request again in {wait} s.",
            retry_after=wait,
        )


class Place:
    """One request's place in the queue; given back once, however often ``leave`` is called."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0
        self._left = False

    def hold(self, size: int) -> None:
        """Count bytes of the body; raises ``Refusal`` 429 where there is no room for them."""
        self._admission.hold(size)
        self._held += size

    def leave(self, seconds: float | None = None) -> None:
        """Give the place back."""
        if not self._left:
            self._left = True
            self._admission.leave(self._held, seconds)


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
