"""Verdicts on disk that wait for their receiver: they survive a kill, and are delivered in order.

A receiver is the database of a service, or a system of the plant. Each process appends to a file of
its own and holds a lock on it. Files without a lock are left by processes that were killed; any
process that uses the folder delivers them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chiasm.errors import ConfigurationError

logger = logging.getLogger(__name__)

AT_ONCE = 256
_TEST = 65_536  # bytes, more than a hundred verdicts
_SUFFIX = ".jsonl"
_ASIDE = "set-aside.txt"

Rows = Sequence[dict[str, Any]]


class Spool:
    """A folder of verdicts that are not delivered yet; threads may share it.

    Args:
        folder: created if it does not exist.
        owner: of the file that is written, for its name.
        receiver: for whom they wait, for messages.
        option: that names the folder, for messages.
        at_once: verdicts that are handed over together.

    Raises ``ConfigurationError`` if nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        owner: str,
        receiver: str = "the database",
        option: str = "--spool",
        at_once: int = AT_ONCE,
    ) -> None:
        self.folder = folder
        self._at_once = at_once
        self._left_at: dict[Path, int] = {}  # bytes of left files that are delivered
        self._lock = threading.Lock()
        self._size = 0  # of the whole lines
        self._delivered = 0  # bytes of them
        self._own = 0  # lines that wait
        self._aside = _lines(folder / _ASIDE)
        self._left = 0  # lines of killed services that wait
        safe = re.sub(r"[^A-Za-z0-9._-]", "-", owner)[:80] or "service"
        self._path = folder / f"{safe}-{os.urandom(4).hex()}{_SUFFIX}"
        try:
            self._file = self._new_file()
        except OSError as error:
            raise ConfigurationError(
                f"Verdicts cannot be kept in {folder} while {receiver} is away "
                f"({error.strerror or error}); name a folder that you may write to with {option}."
            ) from error
        self.count_left()

    @property
    def waiting(self) -> int:
        """Verdicts that are not delivered yet, those of killed services included."""
        return self._own + self._left

    @property
    def aside(self) -> int:
        """Lines that cannot be delivered, in the file for the operator."""
        return self._aside

    def append(self, rows: Rows) -> None:
        """Write rows; they are on the disk when this returns.

        Raises ``OSError``, and then none of them is kept.
        """
        data = b"".join(map(line_of, rows))
        with self._lock:
            self._renew_if_deleted()
            try:
                # Bytes of an attempt that failed, if they could not be cut off then.
                os.ftruncate(self._file, self._size)
                _write_all(self._file, data)
                os.fsync(self._file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
                raise
            self._size += len(data)
            self._own += len(rows)

    def test(self) -> None:
        """Write something and take it back; raises ``OSError`` if the disk is full or broken."""
        with self._lock:
            try:
                _write_all(self._file, bytes(_TEST))
                os.fsync(self._file)
            finally:
                os.ftruncate(self._file, self._size)

    def count_left(self) -> int:
        """Count the rows that killed services left."""
        count = 0
        for path in self._left_files():
            with path.open("rb") as lines:
                lines.seek(self._left_at.get(path, 0))
                count += sum(1 for line in lines if line.endswith(b"\n"))
        self._left = count
        return count

    def deliver_left(self, send: Callable[[Rows], None]) -> None:
        """Hand the rows of killed services to ``send`` in batches, oldest first.

        Rows are handed over again if the process is killed before the end of their file. Damaged
        lines are set aside.
        """
        for path in self._left_files():
            start = self._left_at.get(path, 0)
            for rows, end in self._batches(path, start, path.stat().st_size):
                send(rows)
                self._left_at[path] = end
                self._left = max(0, self._left - len(rows))
            path.unlink()
            self._left_at.pop(path, None)

    def deliver(self, send: Callable[[Rows], None]) -> None:
        """Hand the own rows to ``send`` in batches, oldest first, each row once."""
        with self._lock:
            self._renew_if_deleted()
        for rows, end in self._batches(self._path, self._delivered, self._size):
            send(rows)
            with self._lock:
                self._delivered = end
                self._own = max(0, self._own - len(rows))

    def clear(self) -> bool:
        """Empty the own file if all of it is delivered; tell whether it is empty."""
        with self._lock:
            if self._delivered < self._size:
                return False
            if self._size:
                os.ftruncate(self._file, 0)
            self._size = self._delivered = self._own = 0
            return True

    def set_aside(self, lines: Sequence[bytes], why: str) -> None:
        """Keep lines that cannot be delivered, with the reason, in a file for the operator."""
        logger.error(
            "%d kept verdicts cannot be delivered (%s); they are in %s.",
            *(len(lines), why, self.folder / _ASIDE),
        )
        with (self.folder / _ASIDE).open("ab") as file:
            for line in lines:
                file.write(why.encode("utf-8", "replace") + b"\t" + line.rstrip(b"\n") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._aside += len(lines)

    def close(self) -> None:
        """Leave what waits to the next service that uses the folder."""
        if self.clear():
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _new_file(self) -> int:
        """Create the own file; ``OSError`` where that is not possible."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Locked before it has the name that others look for.
        new = self._path.with_suffix(".new")
        file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            new.rename(self._path)
            _sync_folder(self.folder)
        except OSError:
            os.close(file)
            new.unlink(missing_ok=True)
            raise
        return file

    def _renew_if_deleted(self) -> None:
        """Write what waits to a new file where somebody deleted the own one, or its folder."""
        if os.fstat(self._file).st_nlink:
            return
        waiting = os.pread(self._file, self._size - self._delivered, self._delivered)
        file = self._new_file()
        try:
            _write_all(file, waiting)
            os.fsync(file)
        except OSError:
            os.close(file)
            self._path.unlink(missing_ok=True)
            raise
        os.close(self._file)
        self._file, self._size, self._delivered = file, len(waiting), 0

    def _left_files(self) -> Iterator[Path]:
        """Yield the files of killed services, oldest first, each locked while it is used."""
        found: list[tuple[float, Path]] = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # delivered by another service
                if path != self._path:
                    found.append((path.stat().st_mtime, path))
        for _, path in sorted(found):
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    yield path
            except BlockingIOError:  # its service is alive
                continue
            finally:
                os.close(file)

    def _batches(self, path: Path, start: int, end: int) -> Iterator[tuple[Rows, int]]:
        """Yield rows between two offsets, and the offset behind them.

        A last line without an end was never answered for: its service was killed at it.
        """
        rows: list[dict[str, Any]] = []
        with path.open("rb") as file:
            file.seek(start)
            while file.tell() < end:
                line = file.readline()
                row = _row(line)
                if row is not None:
                    rows.append(row)
                elif line.strip() and line.endswith(b"\n"):
                    self.set_aside([line], "damaged on the disk")
                if len(rows) >= self._at_once:
                    yield rows, file.tell()
                    rows = []
            if rows or end > start:
                yield rows, end


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as lines:
            return sum(1 for _ in lines)
    except OSError:
        return 0


def line_of(row: dict[str, Any]) -> bytes:
    """Return a row as a line with a checksum."""
    text = json.dumps(row, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _row(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    """Write the folder itself, without which a new file in it may be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
