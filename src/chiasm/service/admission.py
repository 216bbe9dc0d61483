"""How many requests may wait, and how many bytes they may hold."""

from __future__ import annotations

import math

from chiasm.service.refusals import Refusal

# Weight of the newest request in the running mean of their time.
_NEWEST = 0.1


class Admission:
    """The bounded queue; all of it runs in the event loop's thread.

    Args:
        slots: requests that may be read, wait or be worked on at a time.
        held_bytes: that their bodies may hold together.
        workers: requests that are worked on at a time.
    """

    def __init__(self, *, slots: int, held_bytes: int, workers: int) -> None:
        self.slots = slots
        self.held_bytes = held_bytes
        self._workers = workers
        self._taken = 0
        self._bytes = 0
        self._seconds = 0.1

    @property
    def depth(self) -> int:
        """Requests that hold a slot."""
        return self._taken

    def enter(self) -> QueueSlot:
        """Take a slot; raises ``Refusal`` 429 if all are taken."""
        if self._taken >= self.slots:
            raise self._full(f"{self._taken} requests are waiting already")
        self._taken += 1
        return QueueSlot(self)

    def hold(self, size: int) -> None:
        """Count bytes of a body; raises ``Refusal`` 429 if they exceed the limit."""
        if self._bytes + size > self.held_bytes:
            raise self._full(f"waiting requests hold {self._bytes / 2**20:.0f} MB already")
        self._bytes += size

    def leave(self, held: int, seconds: float | None) -> None:
        """Give a slot and its bytes back.

        ``seconds`` is the time of the work without the queue; None leaves the mean unchanged.
        """
        self._taken -= 1
        self._bytes -= held
        if seconds is not None:
            self._seconds += _NEWEST * (seconds - self._seconds)

    def _full(self, reason: str) -> Refusal:
        wait = max(1, math.ceil(self._taken * self._seconds / self._workers))
        return Refusal(
            429,
            "busy",
            f"The service is busy: {reason}. Send the request again in {wait} s.",
            retry_after=wait,
        )


class QueueSlot:
    """One request's slot in the queue; only the first call of ``leave`` gives it back."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0
        self._left = False

    def hold(self, size: int) -> None:
        """Count bytes of the body; raises ``Refusal`` 429 if they exceed the limit."""
        self._admission.hold(size)
        self._held += size

    def leave(self, seconds: float | None = None) -> None:
        """Give the slot back."""
        if not self._left:
            self._left = True
            self._admission.leave(self._held, seconds)
