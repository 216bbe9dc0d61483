"""A lock of a folder that one process at a time may write to."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator
from pathlib import Path

from chiasm.errors import DataError

LOCK = "lock"
_POLL_S = 0.2
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EINTR)


def is_held(error: DataError) -> bool:
    """Tell whether a refused lock is held by another process; else there are no locks."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _HELD


@contextlib.contextmanager
def write_lock(folder: Path, *, patience_s: float = 900.0, name: str = LOCK) -> Iterator[None]:
    """Hold a folder's lock; the system releases the lock of a killed process.

    Args:
        folder: that exists.
        patience_s: seconds to wait for another process.
        name: of the lock's file in the folder.

    Raises:
        DataError: another process holds the lock for longer than that, or there are no locks in the
            folder, as on some shares of a network; see ``is_held``.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - no such lock on this system
        yield
        return
    with (folder / name).open("w") as stream:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as cause:
                if cause.errno not in _HELD:
                    raise DataError(
                        f"{folder} cannot be locked ({cause.strerror or cause}), as shares of a "
                        "network may not allow; name a folder on a disk of this computer."
                    ) from cause
                if time.monotonic() >= deadline:
                    raise DataError(
                        f"{folder} is still being written by another process after "
                        f"{patience_s:.0f} s; wait until it has finished, or end it."
                    ) from cause
            time.sleep(_POLL_S)
        yield
