"""One validated description of a run, from YAML, keyword arguments or the command line."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from chiasm.errors import ConfigurationError


def read_override(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``, the value as YAML; raises ``ConfigurationError``."""
    key, found, value = text.partition("=")
    if not found:
        raise ConfigurationError(f"{text!r} is not of the form key=value.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"The value of {text!r} cannot be read as YAML: {str(error).splitlines()[0]}."
        ) from error


def _told(item: Any, settings: type[BaseModel]) -> str:
    """What is wrong with one setting, and which was probably meant."""
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden" or len(item["loc"]) != 1:
        return f"{place}: {item['msg'].removeprefix('Value error, ')}"
    meant = difflib.get_close_matches(place, settings.model_fields, n=1, cutoff=0.7)
    if meant:
        return f"{place}: there is no such setting; {meant[0]!r} was probably meant."
    return (
        f"{place}: there is no such setting; 'chiasm settings' lists all. A model's own are given "
        "as options={name: value}."
    )


class Settings(BaseModel):
    """Settings that are checked when they are made, and are told in words where they are wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def make(
        cls, *, file: Path | None = None, overrides: Sequence[str] = (), **values: Any
    ) -> Self:
        """Join a YAML file, ``key=value`` overrides and keywords (later ones win).

        Raises:
            ConfigurationError: naming each setting that is wrong, and why.
        """
        merged: dict[str, Any] = {}
        if file is not None:
            try:
                read = yaml.safe_load(file.read_text())
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise ConfigurationError(f"{file} cannot be read as YAML: {error}") from error
            if not isinstance(read, dict):
                raise ConfigurationError(f"{file} must hold 'key: value' lines.")
            merged.update(read)
        for override in overrides:
            key, value = read_override(override)
            merged[key] = value
        merged.update({key: value for key, value in values.items() if value is not None})
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            lines = [f"  {_told(item, cls)}" for item in error.errors()]
            raise ConfigurationError("These settings are wrong:\n" + "\n".join(lines)) from error

    def save(self, path: Path) -> None:
        """Write as YAML, so that ``chiasm train --config`` repeats the run."""
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


_WORDS: dict[Any, str] = {
    **{str: "text", int: "whole number", float: "number", bool: "true | false"},
    **{dict: "{name: value}", Path: "path"},
}

_NAMES = re.compile(r"^    ([a-z_]+(?:, [a-z_]+)*): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SettingFact:
    """One setting.

    Attributes:
        name: as it is given, ``name=value``.
        kind: which values there are, in words.
        default: in words.
        meaning: in a sentence.
    """

    name: str
    kind: str
    default: str
    meaning: str


def setting_facts(settings: type[BaseModel]) -> tuple[SettingFact, ...]:
    """All settings of a class, in its order; what they mean stands in its docstring."""
    meanings = _meanings(settings)
    return tuple(
        SettingFact(
            name=name,
            kind=_kind(field.annotation),
            default=_default(field),
            meaning=meanings.get(name, ""),
        )
        for name, field in settings.model_fields.items()
    )


def _meanings(settings: type[BaseModel]) -> dict[str, str]:
    text = inspect.getdoc(settings) or ""
    text = text.partition("Attributes:\n")[2]
    starts = list(_NAMES.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    found: dict[str, str] = {}
    for match, end in zip(starts, ends, strict=True):
        meaning = " ".join(text[match.end() : end].split()).replace("``", "")
        found |= dict.fromkeys(match[1].split(", "), meaning)
    return found


def _kind(annotation: Any) -> str:
    inside = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in inside)
    if origin in (Union, UnionType):
        return " | ".join(_kind(one) for one in inside if one is not NoneType)
    if origin is tuple:
        return _kind(inside[0]) + (", ..." if inside[-1] is ... else f" ({len(inside)})")
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    return _WORDS.get(origin or annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "to be given"
    if value is None or value in ((), {}):
        return "none unless given"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value) + " unless given"
    return f"{str(value).lower() if isinstance(value, bool) else value} unless given"
