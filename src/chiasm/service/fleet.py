"""All models of a service by name, and the watch over their folders."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from chiasm.errors import ChiasmError, ConfigurationError
from chiasm.service.hosted_model import HostedModel, Runtime
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


class Fleet:
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
