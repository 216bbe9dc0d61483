"""What an outlet is, and how one comes to be from its options in a YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from chiasm.errors import ChiasmError, ConfigurationError
from chiasm.line.record import Payload


class OutletAwayError(ChiasmError):
    """The receiver cannot be reached, or takes nothing now; the record is sent again later."""


class RefusedRecordError(ChiasmError):
    """The receiver will never take this record; it is set aside."""


class Outlet(Protocol):
    """A receiver of records.

    Attributes:
        where: the receiver in words, without secrets.
        beat_s: seconds after which ``check`` is called again without a record; None: never.
    """

    where: str
    beat_s: float | None

    def check(self) -> None:
        """Connect if there is no connection; raises ``OutletAwayError``."""
        ...

    def send(self, record: Payload) -> None:
        """Send a record; the receiver has it when this returns.

        Raises:
            OutletAwayError: it may not have it.
            RefusedRecordError: it does not want it.
        """
        ...

    def close(self) -> None:
        """End the connection; never raises."""
        ...


def shown(url: str) -> str:
    """Return an address without what may be secret in it: user, path and query.

    Example:
        >>> shown("https://me:pw@hooks.example/T0/B1/x?key=1"), shown("opc.tcp://plc:4840/")
        ('https://hooks.example/…', 'opc.tcp://plc:4840')
    """
    scheme, _, rest = url.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)
    more = "/…" if rest[len(place[0]) :].strip("/") else ""
    return f"{scheme}://{place[0].rpartition('@')[2]}{more}"


Builder = Callable[["Options"], Outlet]
_BUILDERS: dict[str, Builder] = {}


def outlet(kind: str) -> Callable[[Builder], Builder]:
    """Register the decorated function, which builds outlets of this kind."""

    def remember(builder: Builder) -> Builder:
        _BUILDERS[kind] = builder
        return builder

    return remember


def builders() -> Mapping[str, Builder]:
    """Return the builders by kind."""
    from chiasm.registry import import_modules

    import_modules("chiasm.line.outlets")
    return _BUILDERS


class Options:
    """Options of an outlet, each read once with its check; ``end`` refuses what nobody read.

    Args:
        values: of the YAML file.
        where: file and outlet, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = dict(values)
        self._known: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """Return text that is not empty; without a default it must be given."""
        value = self._take(name, default)
        if not isinstance(value, str) or (not value and default != ""):
            raise self.wrong(name, value, "text")
        return value

    def number(
        self, name: str, default: float | None, *, low: float = 0, high: float = 1e9
    ) -> float:
        """Return a number between two others."""
        value = self._take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise self.wrong(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, name: str, default: int | None, *, low: int = 0, high: int = 65535) -> int:
        """Return a whole number between two others."""
        value = self.number(name, default, low=low, high=high)
        if value != int(value):
            raise self.wrong(name, value, "a whole number")
        return int(value)

    def optional_whole(self, name: str, *, low: int = 0, high: int = 65535) -> int | None:
        """Return a whole number, or None where it is not given."""
        if self._values.get(name) is None:
            self._take(name, "")
            return None
        return self.whole(name, None, low=low, high=high)

    def optional_number(self, name: str, *, low: float = 0) -> float | None:
        """Return a number, or None where it is not given."""
        if self._values.get(name) is None:
            self._take(name, "")
            return None
        return self.number(name, None, low=low)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def choice(self, name: str, default: str, among: tuple[str, ...]) -> str:
        """Return one of several words."""
        value = str(self._take(name, default))
        if value not in among:
            raise self.wrong(name, value, f"one of {', '.join(among)}")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        """Return a list of words; () where it is not given."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.wrong(name, value, "a list of words")
        return tuple(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a mapping; {} where it is not given."""
        value = self._take(name, {})
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.wrong(name, value, "names with values")
        return value

    def section(self, name: str) -> Options | None:
        """Return the options in a mapping, or None where it is not given."""
        return (
            Options(self.mapping(name), f"{self.where}, {name}") if name in self._values else None
        )

    def file(self, name: str, default: str | None = None) -> str:
        """Return the path of a file that exists."""
        path = self.text(name, default)
        if path and not Path(path).is_file():
            raise ConfigurationError(f"{self.where}: {name} is {path}, which is no file.")
        return path

    def secret(self, name: str) -> str:
        """Return a secret, which is never in the file itself; "" where none is named.

        ``NAME_env`` names a variable of the environment, ``NAME_file`` a file.
        """
        if name in self._values:
            raise ConfigurationError(
                f"{self.where}: {name} must not stand in this file. Put it into a variable of the "
                f"environment and name that ({name}_env: CHIASM_{name.upper()}), or into a file "
                f"({name}_file)."
            )
        variable, path = self.text(f"{name}_env", ""), self.text(f"{name}_file", "")
        if path:
            try:
                return Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f"{self.where}: {name}_file is {path}, which cannot be read: {error}"
                ) from error
        if not variable:
            return ""
        value = os.environ.get(variable, "")
        if not value:
            raise ConfigurationError(
                f"{self.where}: {name}_env names {variable}, which the environment does not have "
                "or is empty; set it before the start, e.g. in the unit's EnvironmentFile."
            )
        return value

    def end(self) -> None:
        """Refuse options that nobody read."""
        unknown = sorted(self._values)
        if unknown:
            raise ConfigurationError(
                f"{self.where}: {', '.join(unknown)} is no option here; known are "
                f"{', '.join(sorted(self._known))}."
            )

    def wrong(self, name: str, value: Any, expected: str) -> ConfigurationError:
        """Return the refusal of a value."""
        return ConfigurationError(f"{self.where}: {name} is {value!r}; {expected} was expected.")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        value = self._values.pop(name, None)
        if value is not None:
            return value
        if default is None:
            raise ConfigurationError(f"{self.where}: {name} is missing; add it.")
        return default
