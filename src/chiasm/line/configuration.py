"""Outlets from a YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiasm.errors import ConfigurationError
from chiasm.line.delivery import OutletSettings
from chiasm.line.outlets.outlet import Options, builders
from chiasm.line.record import VERSION, VERSIONS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def read_outlets(path: Path) -> dict[str, OutletSettings]:
    """Read the outlets of a YAML file, by name; nothing is connected yet.

    Raises:
        ConfigurationError: the file cannot be read, an option is wrong, or a secret is missing.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Outlets need {error.name}, which is not installed: pip install 'chiasm[line]'."
        ) from error

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error
    entries = content.get("outlets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or len(content) > 1:
        raise ConfigurationError(
            f"{path} must hold a list called 'outlets' and nothing else, e.g. 'outlets: [{{type: "
            "mqtt, host: localhost}]'."
        )
    outlets: dict[str, OutletSettings] = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            raise ConfigurationError(f"{path}: outlet {number} must be options with their values.")
        name, settings = _outlet(path, number, entry)
        if name in outlets:
            raise ConfigurationError(
                f"{path}: two outlets are called {name}; give one of them another 'name'."
            )
        outlets[name] = settings
    return outlets


def _outlet(path: Path, number: int, entry: Mapping[str, Any]) -> tuple[str, OutletSettings]:
    known = builders()
    kind = entry.get("type")
    if kind not in known:
        raise ConfigurationError(
            f"{path}: outlet {number} has the type {kind!r}; there are {', '.join(sorted(known))}."
        )
    options = Options({k: v for k, v in entry.items() if k != "type"}, f"{path}, {kind}")
    name = options.text("name", str(kind))
    if not _NAME.fullmatch(name):
        raise options.wrong("name", name, "a name of letters, digits, '.', '_' and '-'")
    only = options.words("only")
    max_age_s = options.optional_number("max_age_s")
    retry_s = options.number("retry_s", 1.0, low=0.01, high=60)
    record = options.whole("record", VERSION, low=VERSIONS[0], high=VERSION)
    outlet = known[str(kind)](options)
    options.end()
    return name, OutletSettings(
        outlet, only=only, max_age_s=max_age_s, retry_s=retry_s, kind=str(kind), record=record
    )
