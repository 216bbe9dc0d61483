"""A model that can be exchanged while it works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

DEPLOYMENT = "deployment.json"


class Runtime(Protocol):
    """What a service needs of ``chiasm.runtime``'s models; calls may come from any thread."""

    wing: str
    model_hash: str

    @property
    def deployment(self) -> Any:
        """What the model's folder says of it."""
        ...

    def prepared(self, *views: Any, **more: Any) -> Callable[[], Any]:
        """Prepare a part or a recording; what it gives judges it, in the caller's thread."""
        ...

    def warm_up(self, *, streaming: bool = False) -> None:
        """Do once whatever makes a first call slow, or with ``streaming`` a first ``prepared``."""
        ...

    def close(self) -> None:
        """Give back memory and threads."""
        ...


class _Version:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.users = 0
        self.retired = False


class HostedModel:
    """One name, and behind it the newest version of a model's folder.

    Args:
        name: in addresses.
        folder: what ``chiasm export`` wrote, or a link to it.
        load: folder to runtime; ``ChiasmError`` where the folder is broken.

    Raises whatever ``load`` raises.
    """

    def __init__(self, name: str, folder: Path, load: Callable[[Path], Runtime]) -> None:
        self.name = name
        self.folder = folder
        self._load = load
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._seen = self._stamp()
        self._current = self._fresh()
        self.reloads = 0

    @contextmanager
    def in_use(self) -> Iterator[Runtime]:
        """The newest version, which stays open until the block ends."""
        with self._lock:
            version = self._current
            version.users += 1
        try:
            yield version.runtime
        finally:
            with self._lock:
                version.users -= 1
                last = version.retired and version.users == 0
            if last:
                version.runtime.close()

    def reload(self) -> None:
        """Load the folder again; whoever began with the old version ends with it.

        Raises ``ChiasmError`` where the folder is broken; the old version then stays.
        """
        with self._reloading:
            seen = self._stamp()
            fresh = self._fresh()
            self._retire(fresh)
            self._seen = seen
            self.reloads += 1

    def changed(self) -> bool:
        """Tell whether the folder has been written since it was loaded."""
        found = self._stamp()
        return found is not None and found != self._seen

    def close(self) -> None:
        """Close the newest version after its last user."""
        with self._lock:
            version = self._current
            if version.retired:
                return
            version.retired = True
            idle = version.users == 0
        if idle:
            version.runtime.close()

    def _fresh(self) -> _Version:
        runtime = self._load(self.folder)
        try:
            runtime.warm_up(streaming=True)
        except BaseException:
            runtime.close()
            raise
        return _Version(runtime)

    def _retire(self, fresh: _Version) -> None:
        with self._lock:
            old, self._current = self._current, fresh
            old.retired = True
            idle = old.users == 0
        if idle:
            old.runtime.close()

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = (self.folder / DEPLOYMENT).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
