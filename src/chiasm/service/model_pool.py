"""All models of a service by name, and the watch over their folders."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from chiasm.errors import ChiasmError, ConfigurationError
from chiasm.service.refusals import unknown_model

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def named_folders(given: list[str]) -> dict[str, Path]:
    """Read ``FOLDER`` or ``NAME=FOLDER``; a folder without a name has its own.

    Raises ``ConfigurationError`` for a name given twice and for one that no address can hold.

    Example:
        >>> named_folders(["runs/gland", "left=runs/export"])
        {'gland': PosixPath('runs/gland'), 'left': PosixPath('runs/export')}
    """
    found: dict[str, Path] = {}
    for one in given:
        name, sign, rest = one.partition("=")
        folder = Path(rest if sign else one)
        name = name if sign else folder.absolute().name
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot be a model's name: letters, digits, '.', '_' and '-' only, at "
                "most 64. Give it another one with NAME=FOLDER."
            )
        if name in found:
            raise ConfigurationError(
                f"{found[name]} and {folder} would both be called {name!r}; give one of them "
                "another name with NAME=FOLDER."
            )
        found[name] = folder
    return found


class ModelPool:
    """The models of a service.

    Args:
        folders: name to folder.
        load: folder to runtime.

    Raises ``ChiasmError`` where a folder is broken.
    """

    def __init__(self, folders: Mapping[str, Path], load: Callable[[Path], Runtime]) -> None:
        self._models = {name: HostedModel(name, folder, load) for name, folder in folders.items()}
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def __getitem__(self, name: str) -> HostedModel:
        if name not in self._models:
            raise unknown_model(name, list(self._models))
        return self._models[name]

    def __iter__(self) -> Iterator[HostedModel]:
        return iter(self._models.values())

    def reload_changed(self) -> None:
        """Load again whatever was written since; a folder that is broken keeps its old version."""
        for model in self:
            if not model.changed():
                continue
            try:
                model.reload()
            except ChiasmError as error:
                logger.warning("Model %s keeps its old version: %s", model.name, error)
            except Exception:
                logger.exception("Model %s keeps its old version.", model.name)
            else:
                logger.info("Model %s was loaded again from %s.", model.name, model.folder)

    def watch(self, every: float) -> None:
        """Look at the folders every so many seconds, in a thread that ends with ``close``."""

        def look() -> None:
            while not self._ended.wait(every):
                self.reload_changed()

        self._watcher = threading.Thread(target=look, name="model-watch", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """End the watch and close every model after its last user."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()
        for model in self:
            model.close()


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
