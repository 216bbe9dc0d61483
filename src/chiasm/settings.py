"""Settings of a run: read from YAML, keywords or the command line, checked and listed."""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from chiasm.errors import ConfigurationError, renamed
from chiasm.registry import RegisteredModel

logger = logging.getLogger(__name__)


def _precision_name(value: Any) -> Any:
    """Read ``32`` as YAML gives it, a number, and the names of earlier versions."""
    return {"32-true": "32", "bf16-mixed": "bf16"}.get(str(value), str(value))


Precision = Annotated[Literal["auto", "32", "bf16", "fp16"], BeforeValidator(_precision_name)]


def _checked_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError(f"a device is auto, cpu, cuda, cuda:N or mps, and not {value!r}")
    return value


DeviceName = Annotated[str, AfterValidator(_checked_device)]


def read_override(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``, the value as YAML; raises ``ConfigurationError``."""
    key, found, value = text.partition("=")
    if not found:
        raise ConfigurationError(f"{text!r} is not of the form key=value.", see="settings")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"The value of {text!r} cannot be read as YAML: {str(error).splitlines()[0]}."
        ) from error


def _explanation(item: Any, settings: type[BaseModel]) -> str:
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


class SearchSettings(BaseModel):
    """How a fusion architecture is searched; given as ``search.finalists=4``.

    Attributes:
        method: ``gradient``, the paper's: a relaxed network of all architectures; or ``evolution``
            of architectures with shared weights, by validation AP and by cost.
        population, generations: of the evolution.
        budget_ms, budget_mb: milliseconds a part and megabytes that the exported model may take at
            most, measured on this machine; None sets no limit. They need ``evolution``.
        epochs: passes of the weights over their training data; the budget may end them earlier.
        order: 1 alternates the steps of weights and architecture, 2 unrolls one weight step
            (DARTS).
        rate: learning rate of the architecture.
        warm_up: share of the search in which the weights alone are trained.
        held_out: share of the training data that the architecture's steps see and the weights do
            not; of parts, the same share is set aside before to choose by.
        selection: parts to choose by: ``held_out`` ones, or the normals of the data set's own
            ``validation`` split, which calibration reads as well. Without such a split they are a
            fifth of the training parts; with few ``shots``, those of the architecture.
        finalists: architectures that the search proposes. All are trained for equally many steps,
            the better half for as many again, and so on; the best on validation data is kept. 1
            takes the strongest as it is, as the paper does.
        final_epochs, final_steps: of the last finalists that are compared, at least.
        share: of the run's minutes; the rest trains the architecture that was found. Minutes
            decide how many finalists are compared, not how long each is trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["gradient", "evolution"] = "gradient"
    population: int = Field(16, ge=2)
    generations: int = Field(6, ge=0)
    budget_ms: float | None = Field(None, gt=0)
    budget_mb: float | None = Field(None, gt=0)
    epochs: int = Field(12, ge=1)
    order: Literal[1, 2] = 1
    rate: float = Field(0.05, gt=0)
    warm_up: float = Field(0.3, ge=0, lt=1)
    held_out: float = Field(0.2, gt=0, lt=1)
    selection: Literal["held_out", "validation"] = "held_out"
    finalists: int = Field(8, ge=1)
    final_epochs: int = Field(4, ge=1)
    final_steps: int = Field(80, ge=0)
    share: float = Field(0.5, gt=0, lt=1)

    @property
    def evolves(self) -> bool:
        """Whether architectures evolve: as asked, or because only evolution knows budgets."""
        budgets = (self.budget_ms, self.budget_mb)
        return self.method == "evolution" or any(budget is not None for budget in budgets)


class Settings(BaseModel):
    """Settings of a run: checked when they are made, with an error for each that is wrong.

    Attributes:
        RENAMED: earlier name of a setting to its present one; a dot reaches into nested settings.
            The earlier name is read, with a remark, for one version.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    RENAMED: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def make(
        cls, *, file: Path | None = None, overrides: Sequence[str] = (), **values: Any
    ) -> Self:
        """Join a YAML file, ``key=value`` overrides and keywords (later ones win).

        A key with a dot names one nested setting (``search.finalists=4``); nested settings that
        are not given keep their defaults.

        Raises:
            ConfigurationError: naming each setting that is wrong, and why.
        """
        given: list[Mapping[str, Any]] = []
        if file is not None:
            try:
                read = yaml.safe_load(file.read_text())
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise ConfigurationError(f"{file} cannot be read as YAML: {error}") from error
            if not isinstance(read, dict):
                raise ConfigurationError(f"{file} must hold 'key: value' lines.")
            given.append(read)
        given.append(dict(read_override(override) for override in overrides))
        given.append({key: value for key, value in values.items() if value is not None})
        merged: dict[str, Any] = {}
        for settings in (cls._preset(given), *given):
            cls._merge(merged, settings)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            lines = [f"  {_explanation(item, cls)}" for item in error.errors()]
            raise ConfigurationError(
                "These settings are wrong:\n" + "\n".join(lines), see="settings"
            ) from error

    @classmethod
    def presets(cls, model: RegisteredModel) -> dict[str, str]:
        """Return by name what each preset sets for a model, as YAML."""
        return {}

    @classmethod
    def _preset(cls, given: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the settings that hold where the given ones, later ones first, say nothing."""
        return {}

    @classmethod
    def _merge(cls, merged: dict[str, Any], given: Mapping[str, Any]) -> None:
        """Add settings to earlier ones; renamed and dotted names find their place."""
        for key, value in given.items():
            name = cls.RENAMED.get(str(key), str(key))
            if name != key:
                logger.warning("%s", renamed("setting", str(key), name))
            outer, _, inner = name.partition(".")
            default = cls.model_fields[outer].default if outer in cls.model_fields else None
            if isinstance(default, BaseModel) and (inner or isinstance(value, Mapping)):
                nested = {inner: value} if inner else dict(value)
                merged[outer] = {**default.model_dump(), **merged.get(outer, {}), **nested}
            else:
                merged[name] = value

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
    """List the settings of a class in its order; nested ones have dotted names."""
    return tuple(_facts(settings, None))


def _facts(settings: type[BaseModel], defaults: BaseModel | None) -> Iterator[SettingFact]:
    """List the settings of a class; ``defaults`` holds those of a nested one."""
    meanings = _meanings(settings)
    for name, field in settings.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else _default_value(field)
        if isinstance(default, BaseModel):
            for fact in _facts(type(default), default):
                yield replace(fact, name=f"{name}.{fact.name}")
        else:
            yield SettingFact(
                name=name,
                kind=_kind(field.annotation),
                default=_in_words(default),
                meaning=meanings.get(name, ""),
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


def _default_value(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _in_words(value: Any) -> str:
    if value is PydanticUndefined:
        return "to be given"
    if value is None or value in ((), {}):
        return "none unless given"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value) + " unless given"
    return f"{str(value).lower() if isinstance(value, bool) else value} unless given"
