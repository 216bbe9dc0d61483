"""Settings of a run of either wing, by the name of its model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from chiasm.errors import ConfigurationError
from chiasm.registry import RegisteredModel, find_model

if TYPE_CHECKING:
    from chiasm.detection.config import DetectionConfig
    from chiasm.diagnosis.config import DiagnosisConfig
    from chiasm.settings import SettingFact

    Config: TypeAlias = DetectionConfig | DiagnosisConfig

# What is trained where no model is named: of parts, of recordings, and where these are searched.
DEFAULT_MODEL, DEFAULT_CLASSIFIER, DEFAULT_SEARCHED = "adnas_light", "auto", "fused_small"


def make_config(
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    searched: bool = False,
    **values: Any,
) -> Config:
    """Return the settings of a run, of the wing that the named model belongs to.

    Args:
        file: YAML file.
        overrides: ``key=value``.
        searched: where no model is named, take one whose fusion can be searched.
        values: settings by name; None leaves one out.

    Raises:
        ConfigurationError: a setting is wrong; names each of them.
    """
    values = {name: value for name, value in values.items() if value is not None}
    if file is None and "start_from" in values:
        file = _settings_of_run(Path(values["start_from"]))
    name = _given("model", file, overrides, values.get("model"))
    if "start_from" in values and name != (first := _given("model", file, (), None)):
        raise ConfigurationError(
            f"{values['start_from']} holds a model {first}, which cannot go on as {name}; leave "
            "out the model's name."
        )
    if name is None:
        data = _given("data", file, overrides, values.get("data"))
        name = default_model(data, searched=searched)
        values["model"] = name
    configuration = _configuration(registered(name))
    return configuration.make(file=file, overrides=overrides, **values)


def _settings_of_run(run: Path) -> Path:
    """Return the settings of a run to go on from; ``ConfigurationError`` says what is wrong."""
    file = run / "config.yaml"
    if not file.is_file():
        raise ConfigurationError(
            f"{run} has no config.yaml: name the folder that 'chiasm train' wrote."
        )
    if registered(_given("model", file, (), None) or DEFAULT_MODEL).wing != "classifier":
        raise ConfigurationError(
            f"{run} holds no classifier of recordings, from which alone a training goes on; "
            "train a detector anew."
        )
    return file


def facts_of(model: str) -> tuple[tuple[SettingFact, ...], tuple[str, ...]]:
    """Return the settings of a model's runs, and the names of the options of its builder.

    Options are the arguments that a run fills in neither from its settings nor from the data.

    Raises:
        ConfigurationError: there is no such model.
    """
    from chiasm.diagnosis.config import FROM_DATA
    from chiasm.settings import setting_facts

    entry = registered(model)
    facts = setting_facts(_configuration(entry))
    if entry.pools is not None and entry.wing == "detector":
        return facts, ()
    parameters = inspect.signature(entry.builder).parameters
    taken = {fact.name for fact in facts} | FROM_DATA | {"pretrained"}
    return facts, tuple(name for name in parameters if name not in taken)


def presets_of(model: str) -> dict[str, str]:
    """Return the presets of a model's runs by name, as YAML.

    Raises:
        ConfigurationError: there is no such model.
    """
    entry = registered(model)
    return _configuration(entry).presets(entry)


def _configuration(entry: RegisteredModel) -> type[DetectionConfig] | type[DiagnosisConfig]:
    """Return the class of the settings of a model's runs."""
    if entry.wing == "classifier":
        from chiasm.diagnosis.config import DiagnosisConfig

        return DiagnosisConfig
    from chiasm.detection.config import DetectionConfig

    return DetectionConfig


def registered(name: str) -> RegisteredModel:
    """Return the registered model of that name; ``ConfigurationError`` lists those that exist."""
    register_models()
    return find_model(name)


def register_models() -> tuple[RegisteredModel, ...]:
    """Import the models of both wings, which registers them, and return them."""
    import chiasm.detection.models.named
    import chiasm.diagnosis.models.named  # noqa: F401
    from chiasm.registry import models

    return models()


def config_of(config: Config | None, settings: dict[str, Any]) -> Any:
    """Return the configuration, or the one that settings by name make; not both."""
    if config is None:
        return make_config(**settings)
    if settings:
        raise ConfigurationError(
            f"Give either a configuration or settings by name, not both: {', '.join(settings)}."
        )
    register_models()
    return config


def wing_of(config: Config) -> str:
    """Return the package of the wing that a configuration's model belongs to."""
    return "diagnosis" if registered(config.model).wing == "classifier" else "detection"


def default_model(data: Any, *, searched: bool = False) -> str:
    """Return the model of data for which none is named: recordings are told from parts."""
    from chiasm.diagnosis.readers.opening import is_diagnosis_data

    if isinstance(data, str | Path) and Path(data).exists() and is_diagnosis_data(data):
        return DEFAULT_SEARCHED if searched else DEFAULT_CLASSIFIER
    return DEFAULT_MODEL


def _given(key: str, file: Path | None, overrides: Sequence[str], value: Any) -> Any:
    """Return a setting from wherever it is given; None where it is not, or the file is broken."""
    import yaml

    given = [o.partition("=")[2] for o in overrides if o.partition("=")[0].strip() == key]
    if value is not None or given:
        return value or given[-1]
    try:
        content = yaml.safe_load(file.read_text()) if file is not None else {}
    except (OSError, yaml.YAMLError):
        return None  # the settings raise the error when they are made
    return content.get(key) if isinstance(content, dict) else None
