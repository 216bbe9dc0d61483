"""Records on their way to the outlets: first to the disk, then sent in order until they arrive."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chiasm.files.spool import Rows, Spool, line_of
from chiasm.line.outlets.outlet import Outlet, OutletAwayError, RefusedRecordError
from chiasm.line.record import VERSION, Payload, as_version, seconds_of

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
_MOST_FAILURES = 5


@dataclass(frozen=True)
class OutletSettings:
    """An outlet with what decides which records it gets.

    Attributes:
        outlet: that sends them.
        only: decisions that are sent; () sends all.
        max_age_s: age after which a record is not sent any more; None sends all.
        retry_s: seconds before the second attempt; each further one takes twice as long.
        kind: of the outlet, as its file names it.
        record: version of the record that is sent.
    """

    outlet: Outlet
    only: tuple[str, ...] = ()
    max_age_s: float | None = None
    retry_s: float = 1.0
    kind: str = ""
    record: int = VERSION


@dataclass(frozen=True)
class OutletState:
    """How it is with one outlet.

    Attributes:
        name, kind: of the outlet.
        where: the receiver in words, without secrets.
        state: ``"failed"`` where the receiver is away, ``"waiting"`` with verdicts that are not
            sent yet, ``"sent"``, or ``"ready"`` before the first.
        waiting: verdicts that are not sent yet.
        sent: verdicts since the start.
        last_sent: seconds since 1970 of the last of them; None before.
        aside: verdicts that were refused or too old, in the outlet's folder.
        why: the receiver is away, or the last verdict was set aside; "" where neither is so.
    """

    name: str
    kind: str
    where: str
    state: Literal["ready", "sent", "waiting", "failed"]
    waiting: int
    sent: int
    last_sent: float | None
    aside: int
    why: str


class Delivery:
    """The outlets of a watch or of a service.

    Args:
        outlets: by name.
        folder: of the spools, one a name.
        owner: of the spools' files.
        tell: prints a line for people.
        option: that names the folder, for messages.

    Raises:
        ConfigurationError: nothing can be written to the folder.
    """

    def __init__(
        self,
        outlets: Mapping[str, OutletSettings],
        folder: Path,
        *,
        owner: str = "watch",
        tell: Callable[[str], None] = logger.warning,
        option: str = "--out",
    ) -> None:
        self._tell = tell
        self._having: tuple[str, set[str]] = ("", set())
        self._lock = threading.Lock()
        self.channels: dict[str, Channel] = {}
        self._tell_forgotten(folder, set(outlets))
        try:
            for name, settings in outlets.items():
                spool = Spool(
                    folder / name,
                    owner=owner,
                    receiver=f"the outlet {name}",
                    option=option,
                    at_once=1,
                )
                self.channels[name] = Channel(name, settings, spool, tell)
        except BaseException:
            self.close(0.0)
            raise

    def put(self, record: Payload) -> None:
        """Keep a record for every outlet; it is on the disk when this returns.

        Raises ``OSError``. The record may then be handed over again, and no outlet gets it twice.
        """
        with self._lock:
            identity = str(record["id"])
            if self._having[0] != identity:
                self._having = (identity, set())
            for name, channel in self.channels.items():
                if name not in self._having[1]:
                    channel.put(record)
                    self._having[1].add(name)
            self._having = ("", set())

    def _tell_forgotten(self, folder: Path, names: set[str]) -> None:
        """Say what waits for outlets that are not there any more."""
        for path in sorted(folder.glob("*/*.jsonl")):
            if path.parent.name not in names and path.stat().st_size:
                self._tell(
                    f"Verdicts wait in {path} for the outlet {path.parent.name}, which is not "
                    "among the outlets now; name it again, or delete the file."
                )

    @property
    def waiting(self) -> dict[str, int]:
        """Number of records that wait, by outlet."""
        return {name: channel.waiting for name, channel in self.channels.items()}

    @property
    def states(self) -> tuple[OutletState, ...]:
        """How it is with each outlet."""
        return tuple(channel.state for channel in self.channels.values())

    @property
    def notices(self) -> tuple[str, ...]:
        """A sentence for each outlet that is away."""
        return tuple(
            f"The outlet {name} is away ({channel.why}); {_verdicts(channel.waiting)} to be sent."
            for name, channel in self.channels.items()
            if channel.why
        )

    def close(self, seconds: float = 5.0) -> None:
        """Send what can be sent within some seconds; the rest is sent after the next start."""
        end = time.monotonic() + seconds
        for channel in self.channels.values():
            channel.finish()
        for name, channel in self.channels.items():
            left = channel.close(max(0.0, end - time.monotonic()))
            if left:
                self._tell(f"{_verdicts(left)} for the outlet {name} until the next start.")


def _verdicts(count: int) -> str:
    return f"{count} verdict waits" if count == 1 else f"{count} verdicts wait"


class Channel:
    """One outlet with its spool, and the thread that sends."""

    def __init__(
        self, name: str, settings: OutletSettings, spool: Spool, tell: Callable[[str], None]
    ) -> None:
        self.name = name
        self.why = ""  # it is away
        self._sent = 0
        self._last_sent: float | None = None
        self._why_aside = ""
        self._settings, self._spool, self._tell = settings, spool, tell
        self._wake = threading.Event()
        self._ends = threading.Event()  # when all is sent, or at the next trouble
        self._ended = threading.Event()  # at once
        self._failures = 0  # of one record, beyond those of the receiver
        self._thread = threading.Thread(target=self._run, name=f"outlet-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of records that wait."""
        return self._spool.waiting

    @property
    def state(self) -> OutletState:
        """How it is with the outlet."""
        waiting, why = self.waiting, self.why
        state: Literal["ready", "sent", "waiting", "failed"] = "ready"
        if why:
            state = "failed"
        elif waiting:
            state = "waiting"
        elif self._sent:
            state = "sent"
        return OutletState(
            self.name,
            self._settings.kind,
            self._settings.outlet.where,
            state,
            waiting,
            self._sent,
            self._last_sent,
            self._spool.aside,
            why or self._why_aside,
        )

    def put(self, record: Payload) -> None:
        """Keep a record on the disk; raises ``OSError``."""
        if not self._settings.only or record["decision"] in self._settings.only:
            self._spool.append([dict(record)])
            self._wake.set()

    def finish(self) -> None:
        """End when all is sent, or at once where the receiver is away."""
        self._ends.set()
        if self.why:
            self._ended.set()
        self._wake.set()

    def close(self, seconds: float) -> int:
        """Wait for the end, and return how many records are left."""
        self._thread.join(seconds)
        self._ended.set()
        self._wake.set()
        # A send that waits for its receiver ends by its own time-out.
        self._thread.join(1.0)
        left = self._spool.waiting
        if not self._thread.is_alive():
            self._spool.close()
        return left

    def _run(self) -> None:
        wait = self._settings.retry_s
        try:
            while not self._ended.is_set():
                self._wake.clear()
                try:
                    self._deliver()
                    wait = self._settings.retry_s
                except Exception as error:
                    self._note(error)
                    if self._ends.is_set():
                        return
                    # At random, so that all stations of a plant do not come back at once.
                    self._ended.wait(wait * random.uniform(0.5, 1.0))
                    wait = min(2 * wait, LONGEST_WAIT_S)
                    continue
                if self._ends.is_set() and not self._wake.is_set():
                    return
                self._wake.wait(self._settings.outlet.beat_s)
        finally:
            self._settings.outlet.close()

    def _deliver(self) -> None:
        self._settings.outlet.check()
        if not self._spool.waiting:
            self._note(None)
        self._spool.deliver_left(self._send)
        self._spool.deliver(self._send)
        self._spool.clear()

    def _send(self, rows: Rows) -> None:
        for row in rows:
            if self._ended.is_set():
                raise OutletAwayError("the end was asked for")
            if self._is_stale(row):
                continue
            try:
                self._settings.outlet.send(as_version(row, self._settings.record))
                self._sent, self._last_sent = self._sent + 1, time.time()
                self._why_aside = ""
            except OutletAwayError:
                raise
            except RefusedRecordError as error:
                self._aside(row, str(error))
            except Exception as error:
                # Not of the receiver: this record would fail for ever, and hold up all others.
                self._failures += 1
                if self._failures < _MOST_FAILURES:
                    raise
                self._aside(row, repr(error))
            self._failures = 0
            self._note(None)

    def _is_stale(self, row: Payload) -> bool:
        limit = self._settings.max_age_s
        if limit is None or time.time() - seconds_of(row) <= limit:
            return False
        self._aside(row, f"older than {limit:g} s")
        return True

    def _aside(self, row: Payload, why: str) -> None:
        self._tell(
            f"The verdict on {row['source']} is not sent to the outlet {self.name} "
            f"({why.rstrip('.')}); it is kept in {self._spool.folder}."
        )
        self._spool.set_aside([line_of(dict(row))], why)
        self._why_aside = why

    def _note(self, error: Exception | None) -> None:
        """Say once that an outlet is away, and once that it is back."""
        if error is None:
            if self.why:
                self._tell(f"The outlet {self.name} is back.")
            self.why = ""
            return
        why = str(error) if isinstance(error, OutletAwayError) else f"{error!r}"
        why = why.rstrip(".")
        if why != self.why and not self._ended.is_set():
            if not isinstance(error, OutletAwayError):
                logger.error("The outlet %s failed.", self.name, exc_info=error)
            self._tell(
                f"The outlet {self.name} is away ({why}); verdicts for it are kept in "
                f"{self._spool.folder} and sent when it is back ({_verdicts(self.waiting)} now)."
            )
        self.why = why
