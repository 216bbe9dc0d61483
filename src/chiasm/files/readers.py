"""Readers register themselves, and the one that recognises a path opens it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chiasm.errors import DataError
from chiasm.files.foreign_formats import disguised, how_to_save
from chiasm.registry import import_modules


class Reader(Protocol):
    """A class that reads the data of one layout; it is made from a path and options.

    Attributes:
        layout: the layout in words, as in "a folder with rgb/ and xyz/ inside".
    """

    layout: str

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a file or folder has the layout; one that does not exist has not."""
        ...


ReaderClass = TypeVar("ReaderClass", bound=type[Reader])
# Wing and name to order and class.
_READERS: dict[tuple[str, str], tuple[int, type[Any]]] = {}


def reader(wing: str, *, order: int = 0) -> Callable[[ReaderClass], ReaderClass]:
    """Register the decorated class as a reader of ``"detection"`` or ``"diagnosis"``.

    Readers of a lower ``order`` are asked first, and of equal ones in the order of their names. A
    layout that others can also be taken for has a higher one.
    """

    def remember(decorated: ReaderClass) -> ReaderClass:
        _READERS[wing, decorated.__name__] = (order, decorated)
        return decorated

    return remember


def readers(wing: str) -> tuple[type[Any], ...]:
    """Return the readers of a wing in the order in which they are asked."""
    import_modules(f"chiasm.{wing}.readers")
    entries = [(order, name, entry) for (w, name), (order, entry) in _READERS.items() if w == wing]
    return tuple(entry for _, _, entry in sorted(entries, key=lambda entry: entry[:2]))


def find_reader(wing: str, path: Path) -> type[Any] | None:
    """Return the first reader that recognises a path, or None."""
    return next((entry for entry in readers(wing) if entry.recognises(path)), None)


def open_with_reader(wing: str, path: Path | str, **options: Any) -> Any:
    """Open a path with the reader that recognises it.

    Options that are None are left out. Raises ``DataError`` for a path that no reader recognises,
    which names all layouts, and for an option that the reader does not take.
    """
    path = Path(path)
    if sentence := disguised(path):
        raise DataError(sentence, see="no-layout")
    entry = find_reader(wing, path)
    if entry is None:
        layouts = "; ".join(known.layout for known in readers(wing))
        raise DataError(f"{_unknown(wing, path)} Known layouts: {layouts}.", see="no-layout")
    options = {name: value for name, value in options.items() if value is not None}
    for name in options.keys() - inspect.signature(entry).parameters.keys():
        raise DataError(
            f"{path} is {entry.layout}, which has no {name} to choose; leave out "
            f"{name}={options[name]}."
        )
    return entry(path, **options)


def without_listing(source: Any) -> Any:
    """Return a reader that loads the same samples and has forgotten which there are.

    It is small, whatever the number of samples, so that it can be sent to many processes together
    with the references that each is to load. None for a reader that needs its listing to load, and
    says so by ``loads_by_listing``.
    """
    if getattr(source, "loads_by_listing", False):
        return None
    reader = copy.copy(source)
    refs, problems = source.refs, source.problems
    for name, value in vars(source).items():
        if value is refs or value is problems:
            setattr(reader, name, ())
        elif hasattr(value, "cleared"):  # a log of problems
            setattr(reader, name, value.cleared())
    return reader


_RECORDING = (
    "A recording is read from a table of numbers (CSV or text), .npy, .npz, .mat, .wav, .h5 or an "
    "instrument's XML: save it as one of these."
)


def _unknown(wing: str, path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist; check the path."
    if path.is_file():
        remedy = f" {_RECORDING}" if wing == "diagnosis" else ""
        return how_to_save(path) or f"{path} is a file of no known layout.{remedy}"
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    names = ", ".join(p.name for p in entries[:5]) or "nothing"
    foreign = next((p for p in entries if p.is_file() and how_to_save(p)), None)
    if foreign is not None:
        return f"{path} has no known layout. {how_to_save(foreign)}"
    inside = next((p for p in entries if p.is_dir() and find_reader(wing, p)), None)
    hint = "" if inside is None else f" It holds data: open one of them, e.g. {inside}."
    return f"{path} has no known layout; it holds {names}.{hint}"
