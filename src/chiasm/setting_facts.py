"""What settings there are, in words: read from the classes that check them."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

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
