"""Judge what appears in a folder, and keep account of it, until told to stop."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from chiasm.errors import ConfigurationError, DataError, DeviceLostError
from chiasm.files.appearing import appearing
from chiasm.files.locks import is_held, write_lock
from chiasm.line.arrivals import MARK, Arrival, Arrivals, ArrivedFile
from chiasm.line.console import tell
from chiasm.line.journal import Journal, Judged
from chiasm.line.judging import Judge
from chiasm.line.pairing import RECORDED_SUFFIXES
from chiasm.line.record import ERROR, LineRecord, Payload

After = Literal["move", "mark", "leave"]
TABLE = "verdicts.csv"
_LOCK = ".chiasm-watch.lock"
_RETRY_S = 5.0  # for which a file that cannot be read may still be in the making
_LONGEST_WAIT_S = 30.0
_REST = 3.0  # times as long as listing the folder took


class Watch:
    """A folder whose parts are judged.

    Args:
        folder: that is watched.
        out: folder of the table and of judged files.
        judge: the model.
        send: hands a record to the plant's systems; raises ``OSError`` if it cannot be kept.
        after: ``move`` files to ``out/DECISION``, ``mark`` them by a ``.verdict.json`` beside, or
            ``leave`` them.
        settle_s, patience_s: see ``Arrivals``.
        every_s: seconds between looks.
        ignore: see ``Arrivals``.
        clock: monotonic seconds.

    Raises:
        ConfigurationError: ``out`` is the folder itself.
        ArtifactError: ``out`` holds another table.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        judge: Judge,
        *,
        send: Callable[[Payload], None] = lambda payload: None,
        after: After = "move",
        settle_s: float = 1.0,
        patience_s: float = 30.0,
        every_s: float = 0.5,
        ignore: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if out.resolve() == folder.resolve():
            raise ConfigurationError(
                f"{out} is the folder that is watched; name another one for the results (--out)."
            )
        self.folder, self.out, self.judge = folder, out, judge
        self.after, self.every_s = after, every_s
        self.counts: Counter[str] = Counter()
        self._send = send
        self._journal = Journal(out / TABLE)
        skipped = tuple(folder / p.relative_to(folder.resolve()) for p in _inside(out, folder))
        self.arrivals = Arrivals(folder, judge.needs, settle_s, patience_s, skipped, ignore, clock)
        self._clock = clock
        # Judged parts whose files could not be moved, and when that is tried again.
        self._unmoved: dict[str, tuple[Arrival, str]] = {}
        self._move_at = 0.0
        # Of parts that were there at the start, or stay in the folder: a share may be away for a
        # while, and then all of its files are new.
        self._judged: dict[str, Judged] | None = None
        self._away = ""
        self._listing_s = 0.0
        self._told: set[str] = set()

    def skip_present(self) -> int:
        """Judge nothing of what is in the folder now; return the number of parts."""
        return self.arrivals.skip_present()

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Judge until ``stop`` is set; with ``once`` until nothing in the folder waits."""
        while not stop.is_set():
            self.look(stop)
            if once and not self._away and not self.arrivals.waiting:
                return
            # A folder of very many files is not listed all the time.
            stop.wait(max(self.every_s, min(_REST * self._listing_s, _LONGEST_WAIT_S)))

    def look(self, stop: threading.Event | None = None) -> int:
        """Look once, judge what is ready, and return how many parts were judged."""
        self.judge.refresh()
        try:
            start = time.monotonic()
            ready = self.arrivals.look()
            self._listing_s = time.monotonic() - start
            if self._judged is None:
                self._judged = self._journal.known(self.arrivals.names)
        except OSError as error:
            why = f"{error.strerror or error}"
            if why != self._away:
                tell(f"{self.folder} cannot be listed ({why}); it is looked for until it is back.")
            self._away = why
            return 0
        if self._away:
            tell(f"{self.folder} is back.")
            self._away = ""
        self._tell_ignored()
        self._tell_restless()
        self._move_left()
        judged = 0
        for arrival in ready:
            if stop is not None and stop.is_set():
                break
            judged += self._handle(arrival, stop or threading.Event())
        return judged

    def _handle(self, arrival: Arrival, stop: threading.Event) -> bool:
        assert self._judged is not None
        before = self._judged.get(arrival.name)
        if before is not None:
            # Of a part whose files were moved in part, the others are left.
            if before.stamp == arrival.stamp or _is_rest(arrival.stamp, before.stamp):
                self._finish(arrival, before.decision, None)
                return False
            if kept := _kept_files(arrival, before.whole):
                if arrival.age_s < self.arrivals.patience_s:
                    return False
                arrival = replace(arrival, problem=self._half_new(arrival, kept))
        self.judge.refresh()
        record = self._record(arrival)
        if record is None or not _unchanged(arrival):
            return False  # still being written: at a later look
        if before is not None and before.id == record.id:
            tell(f"{arrival.name} was judged before ({before.decision}); it gets no second line.")
            self._finish(arrival, before.decision, None)
            return False
        payload = record.payload()
        if not self._kept(payload, arrival, stop):
            return False
        self.counts[record.decision] += 1
        whole = arrival.stamp
        if record.error:
            whole = "" if before is None else before.whole
        self._judged[arrival.name] = Judged(arrival.stamp, record.id, record.decision, whole)
        tell(_line(record))
        self._finish(arrival, record.decision, payload)
        return True

    def _half_new(self, arrival: Arrival, kept: tuple[Path, ...]) -> str:
        return (
            f"{' and '.join(map(str, kept))} is still that of the {arrival.name} that was judged "
            f"before, and the other file was written again; it did not follow within "
            f"{self.arrivals.patience_s:g} s. Write all files of a part, or give each part a name "
            "of its own."
        )

    def _record(self, arrival: Arrival) -> LineRecord | None:
        try:
            return self.judge.judge(arrival, folder=self.folder)
        except DeviceLostError:
            raise  # of all further parts as well: a new process may find the device again
        except Exception as error:
            if isinstance(error, DataError) and arrival.age_s < _RETRY_S:
                return None
            return self.judge.failed(arrival, error, folder=self.folder)

    def _kept(self, payload: Payload, arrival: Arrival, stop: threading.Event) -> bool:
        """Write a record to the spools and to the table, however long the disk takes."""
        wait, sent = 0.5, False
        while True:
            try:
                if not sent:
                    self._send(payload)
                    sent = True
                self._journal.append(payload, arrival.stamp)
                return True
            except OSError as error:
                tell(
                    f"The verdict on {arrival.name} cannot be written ({error.strerror or error}: "
                    f"{error.filename or self.out}); nothing is judged until it can. Free some "
                    "space, or see that the folder is there and may be written to."
                )
            if stop.wait(wait):
                return False
            wait = min(2 * wait, _LONGEST_WAIT_S)

    def _finish(self, arrival: Arrival, decision: str, payload: Payload | None) -> None:
        self.arrivals.settle(arrival)
        try:
            if self.after == "move" and decision:
                self._unmoved[arrival.name] = arrival, decision
                self._move(arrival, decision)
                del self._unmoved[arrival.name]
                if self._judged is not None:
                    self._judged.pop(arrival.name, None)
            elif self.after == "mark" and payload is not None:
                self._mark(arrival, payload)
        except OSError as error:
            where, again = "", ""
            if arrival.name in self._unmoved:
                where, again = f" to {self.out / _folder_name(decision)}", " That is tried again."
            tell(
                f"The files of {arrival.name} could not be {self.after}d{where} "
                f"({error.strerror or error}: {error.filename}); its verdict is in the table."
                f"{again}"
            )
            self._move_at = self._clock() + _LONGEST_WAIT_S

    def _move_left(self) -> None:
        """Move what could not be moved before, once in a while."""
        if not self._unmoved or self._clock() < self._move_at:
            return
        for arrival, decision in list(self._unmoved.values()):
            try:
                self._move(arrival, decision)
            except FileNotFoundError:
                # Taken away by somebody; what is known of the part stays.
                del self._unmoved[arrival.name]
                continue
            except OSError:
                self._move_at = self._clock() + _LONGEST_WAIT_S
                return
            tell(f"The files of {arrival.name} are moved now.")
            del self._unmoved[arrival.name]
            if self._judged is not None:
                self._judged.pop(arrival.name, None)

    def _move(self, arrival: Arrival, decision: str) -> None:
        target = self.out / _folder_name(decision)
        absent = [file.path for file in arrival.files if not file.path.exists()]
        if len(absent) == len(arrival.files):  # an unmounted share is an empty folder
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(absent[0]))
        for file in arrival.files:
            if not _is_as_judged(file):
                continue  # moved before; or written again, and to be judged
            place = target / file.path.relative_to(self.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                place = place.with_name(f"{place.stem}-{file.mtime_ns:x}{place.suffix}")
            _moved(file.path, place)

    def _mark(self, arrival: Arrival, payload: Payload) -> None:
        import json

        first = arrival.files[0].path
        with appearing(first.with_name(f"{Path(arrival.name).name}{MARK}")) as half:
            half.write_text(json.dumps(payload, indent=2) + "\n")

    def _tell_ignored(self) -> None:
        new = self.arrivals.ignored - self._told
        if new:
            self._told |= new
            needs = self.judge.needs
            recorded = needs.roles == {"image"} and bool(new & RECORDED_SUFFIXES)
            remedy = (
                " A recorder's file that holds a pattern is judged by 'chiasm predict'; the line "
                "takes pictures of it, or a model that looks at series."
            )
            tell(
                f"Files {', '.join(sorted(new))} in {self.folder} are not read: this model takes "
                f"{' and '.join(needs.missing(()))} of each part.{remedy if recorded else ''}"
            )

    def _tell_restless(self) -> None:
        for name in set(self.arrivals.restless) - self._told:
            self._told.add(name)
            tell(
                f"The files of {name} have not lain still for {self.arrivals.settle_s:g} s since "
                f"{self.arrivals.patience_s:g} s; where they are written again and again, let each "
                "part have a name of its own, or lower --settle."
            )


@contextmanager
def locked(folder: Path, out: Path) -> Iterator[None]:
    """Hold the locks of a watched folder and of its results.

    Raises:
        ConfigurationError: another watch holds one of them.
    """
    with ExitStack() as stack:
        for place in (folder, out):
            try:
                stack.enter_context(write_lock(place, patience_s=0.0, name=_LOCK))
            except DataError as error:
                if not is_held(error):
                    tell(
                        f"{place} cannot be locked, as some shares of a network cannot. See to it "
                        "that no second watch uses it: two would judge every part twice."
                    )
                    continue
                raise ConfigurationError(
                    f"Another 'chiasm watch' uses {place}; two would judge every part twice. End "
                    "that one first, or name another folder."
                ) from error
            except OSError as error:
                # A share that may be read only; the lock of the results is left.
                if place == out or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                    raise
        yield


def _inside(out: Path, folder: Path) -> tuple[Path, ...]:
    out, folder = out.resolve(), folder.resolve()
    return (out,) if out.is_relative_to(folder) else ()


def _unchanged(arrival: Arrival) -> bool:
    return all(map(_is_as_judged, arrival.files))


def _is_as_judged(file: ArrivedFile) -> bool:
    try:
        status = file.path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)


def _is_rest(stamp: str, known: str) -> bool:
    """Tell whether files are some of those that a stamp is of."""
    files, all_files = stamp.split(";"), known.split(";")
    return len(files) < len(all_files) and set(files) <= set(all_files)


def _kept_files(arrival: Arrival, known: str) -> tuple[Path, ...]:
    """Return the files that are those of a stamp, where others are not; () where all are new."""
    before = known.split(";")
    if len(before) != len(arrival.files):
        return ()
    now = arrival.stamp.split(";")
    return tuple(
        file.path for file, stamp, earlier in zip(arrival.files, now, before) if stamp == earlier
    )


def _moved(path: Path, place: Path) -> None:
    """Rename a file, or copy it to another file system, where it appears whole."""
    try:
        path.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with appearing(place) as half:
            shutil.copy2(path, half)
        path.unlink()


def _folder_name(decision: str) -> str:
    return re.sub(r"[^\w.+-]", "_", decision).lstrip(".") or ERROR


def _line(record: LineRecord) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(record.time))
    facts = []
    if record.error:
        facts.append(record.error)
    else:
        if record.severity:
            facts.append(f"severity {record.severity}")
        if record.charge is not None:
            unit = "pC" if record.charge_unit == "pC" else "units (uncalibrated)"
            facts.append(f"charge {record.charge:.3g} {unit}")
        if record.pulse_rate is not None:
            facts.append(f"{record.pulse_rate:.3g} pulses a second")
        if record.score is not None:
            facts.append(f"score {record.score:.3g}")
        if record.p_value is not None:
            facts.append(f"p-value {record.p_value:.3f}")
        facts.append(f"{record.latency_ms:.0f} ms")
    notes = f" {' '.join(record.notes)}" if record.notes else ""
    said = ", ".join(facts).rstrip(".")
    return f"{at} {record.source}: {record.decision}, {said}.{notes}"
